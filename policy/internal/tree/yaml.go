package tree

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/turret-go/turret/policy"
)

// A yamlReader makes a tree of the nodes of the YAML parser.
type yamlReader struct{ *builder }

// read reads a file with one document.
func (b *yamlReader) read(data []byte) *Node {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return &Node{Kind: Null, At: policy.Position{File: b.file}}
	case err != nil:
		b.syntax(err)
		return nil
	}
	var second yaml.Node
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		b.syntax(err)
		return nil
	default:
		b.problem(b.at(&second), "", "has a second document here, must have one")
		return nil
	}
	return b.node(&document, "", 0)
}

// lineOf finds the line in an error of the YAML parser, which has no column.
var lineOf = regexp.MustCompile(`^line (\d+): `)

func (b *yamlReader) syntax(err error) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	at := policy.Position{File: b.file}
	if m := lineOf.FindStringSubmatch(text); m != nil {
		at.Line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	b.problem(at, "", "is not valid YAML: %s", shorten(text))
}

func (b *yamlReader) at(n *yaml.Node) policy.Position {
	return policy.Position{File: b.file, Line: n.Line, Column: n.Column}
}

func (b *yamlReader) node(n *yaml.Node, path string, depth int) *Node {
	at := b.at(n)
	if b.deep(depth, at) {
		return nil
	}
	if n.Anchor != "" {
		b.problem(at, path, "has an anchor (&%s), must not: a value is written where it holds", shorten(n.Anchor))
		return nil
	}
	switch n.Kind {
	case yaml.DocumentNode:
		return b.node(n.Content[0], path, depth)
	case yaml.AliasNode:
		b.problem(at, path, "is an alias (*%s), must be a value: a value is written where it holds", shorten(n.Value))
	case yaml.MappingNode:
		return b.yamlMap(n, path, depth)
	case yaml.SequenceNode:
		if !b.tagged(n, path, "!!seq") {
			return nil
		}
		list := &Node{Kind: List, At: at}
		for i, item := range n.Content {
			list.Items = append(list.Items, b.node(item, fmt.Sprintf("%s[%d]", path, i), depth+1))
		}
		return list
	case yaml.ScalarNode:
		return b.scalar(n, path)
	}
	return nil
}

// tagged reports whether n has no tag of its own, such as !!binary or !mine, and
// says so if it has.
func (b *yamlReader) tagged(n *yaml.Node, path, usual string) bool {
	if n.Style&yaml.TaggedStyle == 0 && n.ShortTag() == usual {
		return true
	}
	b.problem(b.at(n), path, "has the tag %s, must have none", shorten(n.ShortTag()))
	return false
}

func (b *yamlReader) yamlMap(n *yaml.Node, path string, depth int) *Node {
	if !b.tagged(n, path, "!!map") {
		return nil
	}
	m := &Node{Kind: Map, At: b.at(n)}
	seen := map[string]policy.Position{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, at := n.Content[i], b.at(n.Content[i])
		switch {
		case key.Kind != yaml.ScalarNode || key.Anchor != "":
			b.problem(at, path, "has a key that is not plain text, must not")
			continue
		case key.ShortTag() == "!!merge":
			b.problem(at, path, "has a merge key (<<), must not: a value is written where it holds")
			continue
		}
		if value := b.node(n.Content[i+1], Join(path, key.Value), depth+1); value != nil {
			b.add(m, seen, Entry{key.Value, at, value}, path)
		}
	}
	return m
}

func (b *yamlReader) scalar(n *yaml.Node, path string) *Node {
	made := &Node{Value: n.Value, At: b.at(n)}
	if n.Style&yaml.TaggedStyle != 0 {
		b.tagged(n, path, "")
		return nil
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		made.Kind = Number
	case "!!bool":
		made.Kind = Bool
	case "!!null":
		made.Kind = Null
	default: // dates too: they are text that YAML has a type for
		made.Kind = Text
	}
	return made
}
