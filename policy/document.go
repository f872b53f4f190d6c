package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A Document is a policy and where each part of it is written. Package
// policyfile reads one from a file, package serviceconfig makes one of a gRPC
// service config, and a program may make one of a Policy message alone. A
// Document must not be changed after it was given to [New] or [Policy.Load].
type Document struct {
	// Name is the name of the file, for texts. It may be empty.
	Name string
	// Policy is the policy.
	Policy *policyv1.Policy
	// Positions says where in the file a part of the policy is written, by its
	// path, such as "rules[0].client.retry.codes[1]". Paths may be missing.
	Positions map[string]Position
	// Source is what the file held. policyfile.Watch compares it with what the
	// file holds now. nil where there is no file.
	Source []byte
}

// position returns where path is written: its own position, or that of the
// closest part around it.
func (d Document) position(path string) Position {
	for {
		if at, ok := d.Positions[path]; ok {
			return at
		}
		cut := strings.LastIndexAny(path, ".[")
		if cut < 0 {
			return Position{File: d.Name}
		}
		path = path[:cut]
	}
}

// A Position is a place in a file. Lines and columns begin at 1 and columns
// count bytes; 0 means that they are not known.
type Position struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// String returns p in the form "policy.yaml:5:15", without what is not known.
func (p Position) String() string {
	parts := make([]string, 0, 3)
	if p.File != "" {
		parts = append(parts, p.File)
	}
	if p.Line > 0 {
		parts = append(parts, strconv.Itoa(p.Line))
		if p.Column > 0 {
			parts = append(parts, strconv.Itoa(p.Column))
		}
	}
	return strings.Join(parts, ":")
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.File, q.File), cmp.Compare(p.Line, q.Line), cmp.Compare(p.Column, q.Column))
}

// A Problem is one thing that is wrong, or strange, in a policy.
type Problem struct { //nolint:errname // warnings are Problems too
	// At is where it is written.
	At Position `json:"at"`
	// Path is the field, such as "rules[0].client.timeout". It is empty where
	// the problem is one of the whole file.
	Path string `json:"path,omitempty"`
	// Text says what the field is and what it must be, without the path.
	Text string `json:"text"`
	// Rule is the name of the rule, where it is known.
	Rule string `json:"rule,omitempty"`
}

// Error returns the problem in one line, which begins with the position:
//
//	p.yaml:5:9: rules[0].client.timeout is 500 without a unit, must have one: 500s or 500ms
func (p *Problem) Error() string {
	var b strings.Builder
	if at := p.At.String(); at != "" {
		b.WriteString(at + ": ")
	}
	if p.Path != "" {
		b.WriteString(p.Path + " ")
	}
	b.WriteString(p.Text)
	if p.Rule != "" {
		fmt.Fprintf(&b, " (rule %q)", p.Rule)
	}
	return b.String()
}

// Errors is all that is wrong in a policy, by position.
type Errors []*Problem

// maxTold is how many problems Errors.Error lists.
const maxTold = 50

// Error returns one line for each problem, and how many more there are after
// the fiftieth.
func (e Errors) Error() string {
	lines := make([]string, 0, min(len(e), maxTold)+1)
	for i, p := range e {
		if i == maxTold {
			lines = append(lines, fmt.Sprintf("and %d more", len(e)-maxTold))
			break
		}
		lines = append(lines, p.Error())
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the problems, for errors.AsType[*Problem].
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, p := range e {
		all[i] = p
	}
	return all
}

// Err returns e, sorted by position and without what is there twice, as an
// error: nil if there is no problem.
func (e Errors) Err() error {
	if len(e) == 0 {
		return nil
	}
	return e.Sorted()
}

// Sorted returns the problems by position, then path, and each one once. It
// leaves e as it is.
func (e Errors) Sorted() Errors {
	sorted := slices.Clone(e)
	slices.SortStableFunc(sorted, func(a, b *Problem) int {
		return cmp.Or(a.At.compare(b.At), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Text, b.Text))
	})
	return slices.CompactFunc(sorted, func(a, b *Problem) bool { return *a == *b })
}
