package policyfile

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/internal/suggest"
	"github.com/turret-go/turret/policy/internal/tree"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// Parse reads a policy from data, which is what the file of that name holds; the
// name is used in errors only. The error is a [policy.Errors] with all that is
// wrong with the syntax and the values, but at most 1,000 problems; whether the rules
// go together is for policy.New to say. It may be called concurrently, and data must not be changed
// as long as the Document is used.
func Parse(name string, data []byte) (policy.Document, error) {
	root, errs := tree.Parse(name, data)
	if root == nil {
		return policy.Document{}, errs.Err()
	}
	d := &decoder{positions: map[string]policy.Position{}, errs: errs}
	p := new(policyv1.Policy)
	switch root.Kind {
	case tree.Map:
		d.message(root, p.ProtoReflect(), "")
	case tree.Null:
		d.problem(root.At, "", "is empty, must have rules")
	default:
		d.problem(root.At, "", "is %v, must be a map with rules", root.Kind)
	}
	if err := d.errs.Err(); err != nil {
		return policy.Document{}, err
	}
	return policy.Document{Name: name, Policy: p, Positions: d.positions, Source: data}, nil
}

// A decoder puts a tree into a message, and collects where everything is and
// what is wrong.
type decoder struct {
	positions map[string]policy.Position
	errs      policy.Errors
}

func (d *decoder) problem(at policy.Position, path, format string, args ...any) {
	d.errs = append(d.errs, &policy.Problem{At: at, Path: path, Text: fmt.Sprintf(format, args...)})
}

// full reports whether there are as many problems as are listed.
func (d *decoder) full() bool { return len(d.errs) >= tree.MaxProblems }

// message puts a map into m.
func (d *decoder) message(n *tree.Node, m protoreflect.Message, path string) {
	given := map[protoreflect.Name]tree.Entry{}
	for _, e := range n.Entries {
		if d.full() {
			return
		}
		field := fieldOf(m.Descriptor(), e.Key)
		if field == nil {
			d.problem(e.At, tree.Join(path, e.Key), "is not a field of %s, which has %s%s",
				m.Descriptor().Name(), list(fieldNames(m.Descriptor())), meant(e.Key, fieldNames(m.Descriptor())))
			continue
		}
		if first, twice := given[group(field)]; twice {
			d.problem(e.At, tree.Join(path, e.Key), "is given beside %s (line %d), must not: one of them must go", first.Key, first.At.Line)
			continue
		}
		given[group(field)] = e
		at := tree.Join(path, field.TextName())
		d.positions[at] = e.At
		d.field(e.Value, m, field, at)
	}
}

// group is what may be given once: a field, or one of the fields of a oneof.
func group(field protoreflect.FieldDescriptor) protoreflect.Name {
	if of := field.ContainingOneof(); of != nil && !of.IsSynthetic() {
		return "oneof " + of.Name()
	}
	return field.Name()
}

func fieldOf(m protoreflect.MessageDescriptor, key string) protoreflect.FieldDescriptor {
	if field := m.Fields().ByTextName(key); field != nil {
		return field
	}
	return m.Fields().ByJSONName(key)
}

func fieldNames(m protoreflect.MessageDescriptor) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range m.Fields().Len() {
			if !yield(m.Fields().Get(i).TextName()) {
				return
			}
		}
	}
}

func list(words iter.Seq[string]) string { return strings.Join(slices.Collect(words), ", ") }

// meant returns a hint at the word that was probably meant.
func meant(word string, words iter.Seq[string]) string {
	if closest := suggest.Closest(word, words); closest != "" {
		return " (did you mean " + closest + "?)"
	}
	return ""
}

func (d *decoder) field(n *tree.Node, m protoreflect.Message, field protoreflect.FieldDescriptor, path string) {
	if !field.IsList() {
		if v, ok := d.value(n, m, field, path); ok {
			m.Set(field, v)
		}
		return
	}
	if n.Kind != tree.List {
		d.problem(n.At, path, "is %v, must be a list: [%s]", n, exampleOf(field))
		return
	}
	items := m.Mutable(field).List()
	for i, item := range n.Items {
		if item == nil { // refused already
			continue
		}
		if d.full() {
			return
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		d.positions[at] = item.At
		if v, ok := d.item(item, items, field, at); ok {
			items.Append(v)
		}
	}
}

func exampleOf(field protoreflect.FieldDescriptor) string {
	switch field.Name() {
	case "codes":
		return "UNAVAILABLE"
	case "methods":
		return `"/package.Service/*"`
	default:
		return "..."
	}
}

// value reads the value of a field that is no list.
func (d *decoder) value(n *tree.Node, m protoreflect.Message, field protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	return d.read(n, field, path, func() protoreflect.Value { return m.NewField(field) })
}

// item reads an element of a list.
func (d *decoder) item(n *tree.Node, items protoreflect.List, field protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	return d.read(n, field, path, items.NewElement)
}

// read reads a value of the kind of field. empty makes an empty one.
func (d *decoder) read(n *tree.Node, field protoreflect.FieldDescriptor, path string, empty func() protoreflect.Value) (v protoreflect.Value, ok bool) {
	if n.Kind == tree.Null {
		d.problem(n.At, path, "is null, must have a value, or be left out")
		return v, false
	}
	if field.Kind() == protoreflect.MessageKind {
		return d.block(n, field.Message(), path, empty)
	}
	scalar, text := readScalar(n, field)
	if text != "" {
		d.problem(n.At, path, "%s", text)
		return v, false
	}
	return scalar, true
}

var durationName = (*durationpb.Duration)(nil).ProtoReflect().Descriptor().FullName()

func (d *decoder) block(n *tree.Node, of protoreflect.MessageDescriptor, path string, empty func() protoreflect.Value) (v protoreflect.Value, ok bool) {
	if of.FullName() == durationName {
		duration, text := readDuration(n)
		if text != "" {
			d.problem(n.At, path, "%s", text)
			return v, false
		}
		return protoreflect.ValueOfMessage(durationpb.New(duration).ProtoReflect()), true
	}
	if n.Kind != tree.Map {
		d.problem(n.At, path, "is %v, must be a map with %s", n, list(fieldNames(of)))
		return v, false
	}
	v = empty()
	d.message(n, v.Message(), path)
	return v, true
}
