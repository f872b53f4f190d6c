// Package tree reads YAML and JSON into one tree whose nodes know their line and
// column. It refuses what has two meanings or no use in a configuration: keys
// that are given twice, anchors and aliases, merge keys, tags, several documents.
package tree

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/turret-go/turret/policy"
)

// MaxSize is how many bytes a file may have.
const MaxSize = 16 << 20

// MaxMarks is how many commas, colons, opening brackets and line ends a file may
// have. It bounds the values in it, of which each takes hundreds of bytes while it
// is read: 16 MiB of "a," would take gigabytes. 10,000 large rules have fewer.
const MaxMarks = 1_000_000

// MaxProblems is how many problems are listed. The rest of what is wrong with a file
// like that does not matter.
const MaxProblems = 1_000

// maxDepth is how deep maps and lists may be nested in each other.
const maxDepth = 100

// Kind says what a node is.
type Kind uint8

// The kinds of node.
const (
	Map Kind = iota
	List
	Text
	Number
	Bool
	Null
)

// String returns the name of k as texts have it: "a map".
func (k Kind) String() string {
	switch k {
	case Map:
		return "a map"
	case List:
		return "a list"
	case Text:
		return "text"
	case Number:
		return "a number"
	case Bool:
		return "true or false"
	case Null:
		return "null"
	default:
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
}

// A Node is a value.
type Node struct {
	Kind    Kind
	Value   string // of Text, Number and Bool, as it is written without quotes
	At      policy.Position
	Entries []Entry // of a Map, in order
	Items   []*Node // of a List; nil for those that were refused
}

// An Entry is a key of a map with its value.
type Entry struct {
	Key   string
	At    policy.Position // of the key
	Value *Node
}

// String returns a scalar for texts: text in quotes, and shortened.
func (n *Node) String() string {
	switch n.Kind {
	case Text:
		return Quote(n.Value)
	case Number, Bool:
		return shorten(n.Value)
	case Map, List, Null:
	}
	return n.Kind.String()
}

// Quote returns s in quotes and shortened, for texts.
func Quote(s string) string { return fmt.Sprintf("%q", shorten(s)) }

// shorten bounds what a text repeats of a file.
func shorten(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// Parse reads data, of a file of that name, as JSON if it is a map or a list in
// valid JSON, or if the name ends in .json, and as YAML otherwise. A file without a value is a Null. What is refused is not in the
// tree; if nothing can be read the tree is nil.
func Parse(name string, data []byte) (*Node, policy.Errors) {
	b := &builder{file: name}
	whole := policy.Position{File: name}
	if len(data) > MaxSize {
		b.problem(whole, "", "is %d bytes long, must be at most %d", len(data), MaxSize)
		return nil, b.errs
	}
	if n := marks(data); n > MaxMarks {
		b.problem(whole, "", "has %d commas, colons, opening brackets and line ends, must have at most %d", n, MaxMarks)
		return nil, b.errs
	}
	if at := invalidUTF8(data); at >= 0 {
		b.problem(positionOf(name, data, at), "", "is not valid UTF-8 here, must be")
		return nil, b.errs
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	var root *Node
	switch {
	case isJSON(data):
		root = readJSON(b, data)
	case strings.HasSuffix(name, ".json"):
		notJSON(b, data)
	default:
		root = (&yamlReader{b}).read(data)
	}
	return root, b.errs
}

// marks counts what a value begins after. Without them values can only be nested,
// which has a bound of its own.
func marks(data []byte) (n int) {
	for _, mark := range ",:[{\n" {
		n += bytes.Count(data, []byte{byte(mark)})
	}
	return n
}

func isJSON(data []byte) bool {
	trimmed := bytes.TrimLeft(data, " \t\r\n")
	return len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') && json.Valid(data)
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, -1 if
// there is none.
func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

func positionOf(name string, data []byte, offset int) policy.Position {
	before := data[:offset]
	return policy.Position{
		File:   name,
		Line:   bytes.Count(before, []byte("\n")) + 1,
		Column: offset - bytes.LastIndexByte(before, '\n'),
	}
}

// A builder makes a tree and collects what is wrong with it.
type builder struct {
	file string
	errs policy.Errors
}

func (b *builder) problem(at policy.Position, path, format string, args ...any) {
	if len(b.errs) >= MaxProblems {
		return
	}
	b.errs = append(b.errs, &policy.Problem{At: at, Path: path, Text: fmt.Sprintf(format, args...)})
}

// deep reports whether a value at depth is nested too deep, and says so.
func (b *builder) deep(depth int, at policy.Position) bool {
	if depth <= maxDepth {
		return false
	}
	b.problem(at, "", "has maps and lists nested more than %d deep here, must not", maxDepth)
	return true
}

// add adds an entry to m, unless it has the key already.
func (b *builder) add(m *Node, seen map[string]policy.Position, e Entry, path string) {
	if first, twice := seen[e.Key]; twice {
		b.problem(e.At, Join(path, e.Key), "is given twice, must be given once (first in line %d)", first.Line)
		return
	}
	seen[e.Key] = e.At
	m.Entries = append(m.Entries, e)
}

// Join returns the path of key inside of path.
func Join(path, key string) string {
	key = shorten(key)
	if path == "" {
		return key
	}
	return path + "." + key
}
