package serviceconfig_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
	"github.com/turret-go/turret/policy/serviceconfig"
)

var update = flag.Bool("update", false, "write testdata/configs.txt anew")

// A config is a case of the corpus: a service config and what becomes of it.
type config struct{ name, json, result string }

// corpus reads testdata/configs.txt: "== name", "--- json" with the config,
// "--- result" with the policy and the notes, or the errors.
func corpus(t testing.TB) (all []config) {
	t.Helper()
	data, err := os.ReadFile("testdata/configs.txt")
	if err != nil {
		t.Fatal(err)
	}
	into := new(string)
	for line := range strings.Lines(string(data)) {
		name, isCase := strings.CutPrefix(line, "== ")
		switch {
		case isCase:
			all = append(all, config{name: strings.TrimSpace(name)})
		case line == "--- json\n":
			into = &all[len(all)-1].json
		case line == "--- result\n":
			into = &all[len(all)-1].result
		default:
			*into += line
		}
	}
	return all
}

// resultOf imports a config, and writes down what becomes of it.
func resultOf(t *testing.T, json string) string {
	doc, notes, err := serviceconfig.Import("c.json", []byte(json))
	if err != nil {
		if _, ok := errors.AsType[policy.Errors](err); !ok {
			t.Errorf("the error is a %T", err)
		}
		return "error: " + strings.ReplaceAll(err.Error(), "\n", "\nerror: ") + "\n"
	}
	var b strings.Builder
	b.Write(policyfile.Format(doc))
	for _, n := range notes {
		fmt.Fprintf(&b, "note: %v\n", n)
		if n.At.Line == 0 && !strings.Contains(json, "null") {
			t.Errorf("%v: the note has no position", n)
		}
	}
	if len(doc.Policy.GetRules()) > 0 {
		if _, err := policy.New(doc, policy.Config{UnknownMethods: true}); err != nil {
			fmt.Fprintf(&b, "policy.New: %v\n", err)
		}
	}
	return b.String()
}

func TestImport(t *testing.T) {
	all := corpus(t)
	if len(all) < 30 {
		t.Errorf("the corpus has %d configs, want at least 30", len(all))
	}
	var b strings.Builder
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			got := resultOf(t, c.json)
			if !*update && got != c.result {
				t.Errorf("got\n%swant\n%s", got, c.result)
			}
			fmt.Fprintf(&b, "== %s\n--- json\n%s--- result\n%s", c.name, c.json, got)
		})
	}
	if *update {
		if err := os.WriteFile("testdata/configs.txt", []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What is imported says where it was written.
func TestPositionsAreThoseOfTheConfig(t *testing.T) {
	doc, _, err := serviceconfig.Import("c.json", []byte("{\"methodConfig\": [\n{\"name\": [{\"service\": \"a.B\"}],\n\"timeout\": \"1s\"}]}"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = policy.New(doc, policy.Config{})
	if err == nil || !strings.HasPrefix(err.Error(), "c.json:2:11: rules[0].methods[0] is \"/a.B/*\", but the program knows no service a.B") {
		t.Errorf("the error is %v", err)
	}
	p, err := policy.New(doc, policy.Config{UnknownMethods: true})
	if err != nil {
		t.Fatal(err)
	}
	if at := p.Explain("/a.B/C").Blocks[0].At.String(); at != "c.json:3:1" {
		t.Errorf("the timeout is at %s", at)
	}
}

func FuzzImport(f *testing.F) {
	for _, c := range corpus(f) {
		f.Add([]byte(c.json))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, _, err := serviceconfig.Import("c.json", data)
		if err != nil || len(doc.Policy.GetRules()) == 0 {
			return
		}
		if _, err := policy.New(doc, policy.Config{UnknownMethods: true}); err != nil {
			t.Errorf("what was imported is no policy: %v", err)
		}
	})
}
