package serviceconfig

import (
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/internal/suggest"
	"github.com/turret-go/turret/policy/internal/tree"
)

// maxDuration bounds durations, as in a policy.
const maxDuration = 365 * 24 * time.Hour

// A field is a value and where it is written.
type field struct {
	path string
	at   policy.Position
	node *tree.Node
}

// A reading reads fields, and collects errors and notes.
type reading struct {
	errs  policy.Errors
	notes []Note
}

func (i *reading) problem(f field, format string, args ...any) {
	i.errs = append(i.errs, &policy.Problem{At: f.at, Path: f.path, Text: fmt.Sprintf(format, args...)})
}

func (i *reading) note(f field, format string, args ...any) {
	i.notes = append(i.notes, Note{f.at, f.path, fmt.Sprintf(format, args...)})
}

// fields returns the fields of f, which must be a map of the given ones. Those
// that are null are left out, as in protobuf's JSON.
func (i *reading) fields(f field, of string, names ...string) map[string]field {
	all := map[string]field{}
	if f.node == nil {
		return all
	}
	if f.node.Kind != tree.Map {
		i.problem(f, "is %v, must be a map with %s", f.node, strings.Join(names, ", "))
		return all
	}
	for _, e := range f.node.Entries {
		if len(i.errs) >= tree.MaxProblems {
			break
		}
		name := camel(e.Key)
		at := field{tree.Join(f.path, e.Key), e.At, e.Value}
		if !slices.Contains(names, name) {
			hint := ""
			if closest := suggest.Closest(e.Key, slices.Values(names)); closest != "" {
				hint = " (did you mean " + closest + "?)"
			}
			i.problem(at, "is not a field of %s, which has %s%s", of, strings.Join(names, ", "), hint)
			continue
		}
		if _, twice := all[name]; twice {
			i.problem(at, "is given twice, must be given once")
		}
		if e.Value.Kind != tree.Null {
			all[name] = at
		}
	}
	return all
}

// camel returns a name in snake_case as protobuf's JSON has it.
func camel(name string) string {
	words := strings.Split(name, "_")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}

// items returns the elements of a list; those of no field are none.
func (i *reading) items(f field) iter.Seq2[int, field] {
	return func(yield func(int, field) bool) {
		if f.node == nil {
			return
		}
		if f.node.Kind != tree.List {
			i.problem(f, "is %v, must be a list", f.node)
			return
		}
		for n, item := range f.node.Items {
			if len(i.errs) >= tree.MaxProblems {
				return
			}
			if item != nil && !yield(n, field{fmt.Sprintf("%s[%d]", f.path, n), item.At, item}) {
				return
			}
		}
	}
}

// number returns a number; ok is false if there is none.
func (i *reading) number(all map[string]field, name string) (v float64, ok bool) {
	f, ok := all[name]
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(f.node.Value, 64)
	if f.node.Kind != tree.Number && f.node.Kind != tree.Text || err != nil {
		i.problem(f, "is %v, must be a number", f.node)
		return 0, false
	}
	return v, true
}

// text returns a text, "" if there is none.
func (i *reading) text(all map[string]field, name string) string {
	f, ok := all[name]
	if !ok {
		return ""
	}
	if f.node.Kind != tree.Text {
		i.problem(f, "is %v, must be text", f.node)
	}
	return f.node.Value
}

func (i *reading) boolean(f field) *bool {
	if f.node.Kind != tree.Bool {
		i.problem(f, "is %v, must be true or false", f.node)
		return nil
	}
	return new(f.node.Value == "true")
}

// duration returns a duration as protobuf's JSON has it: "0.100s". It is nil if f
// is none, which is an error.
func (i *reading) duration(f field) *durationpb.Duration {
	seconds, ok := strings.CutSuffix(f.node.Value, "s")
	v, err := strconv.ParseFloat(seconds, 64)
	d, parsed := time.ParseDuration(f.node.Value)
	switch {
	case f.node.Kind == tree.Text && ok && err == nil && v > maxDuration.Seconds():
		i.problem(f, "is %v, must be at most %vs (365 days)", f.node, maxDuration.Seconds())
	case f.node.Kind != tree.Text || !ok || err != nil || parsed != nil:
		i.problem(f, "is %v, must be a duration in seconds, such as \"0.5s\"", f.node)
	case d <= 0 && !strings.HasSuffix(f.path, "hedgingDelay"):
		i.problem(f, "is %v, must be positive", f.node)
	default:
		return durationpb.New(d)
	}
	return nil
}
