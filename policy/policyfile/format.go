package policyfile

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/internal/render"
)

// Format returns the policy of d as YAML: one block a line, in the order of the
// schema. Comments of the file that d was read from are not in it.
func Format(d policy.Document) []byte {
	var b strings.Builder
	b.WriteString("rules:\n")
	for _, r := range d.Policy.GetRules() {
		indent := "  - "
		m := r.ProtoReflect()
		fields := m.Descriptor().Fields()
		for i := range fields.Len() {
			if field := fields.Get(i); m.Has(field) {
				b.WriteString(indent)
				writeField(&b, field, m.Get(field))
				indent = "    "
			}
		}
	}
	return []byte(b.String())
}

// writeField writes a field of a rule: client and server with a line for each
// block, the others in one line.
func writeField(b *strings.Builder, field protoreflect.FieldDescriptor, v protoreflect.Value) {
	if field.Kind() != protoreflect.MessageKind || len(render.Value(field, v)) == len("{}") {
		fmt.Fprintf(b, "%s: %s\n", field.TextName(), render.Value(field, v))
		return
	}
	fmt.Fprintf(b, "%s:\n", field.TextName())
	m := v.Message()
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if field := fields.Get(i); m.Has(field) {
			fmt.Fprintf(b, "      %s: %s\n", field.TextName(), render.Value(field, m.Get(field)))
		}
	}
}
