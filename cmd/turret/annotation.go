package main

import (
	"fmt"
	"strings"

	"github.com/turret-go/turret/policy"
)

// annotation returns a problem as a command of GitHub's workflows, which shows it
// at its line
// (https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands).
// kind is "error" or "warning".
func annotation(kind string, p *policy.Problem) string {
	properties := "file=" + property(p.At.File)
	if p.At.Line > 0 {
		properties += fmt.Sprintf(",line=%d", p.At.Line)
	}
	if p.At.Column > 0 {
		properties += fmt.Sprintf(",col=%d", p.At.Column)
	}
	bare := *p
	bare.At = policy.Position{}
	return fmt.Sprintf("::%s %s,title=policy::%s", kind, properties, data.Replace(bare.Error()))
}

// data escapes what stands behind the properties.
var data = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")

func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(data.Replace(s))
}
