package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/turret-go/turret/policy"
)

// readJSON reads valid JSON.
func readJSON(b *builder, data []byte) *Node {
	r := &jsonReader{builder: b, data: data, decoder: json.NewDecoder(bytes.NewReader(data)), line: 1}
	r.decoder.UseNumber()
	return r.value("", 0)
}

// notJSON says where data is not valid JSON.
func notJSON(b *builder, data []byte) {
	var value json.RawMessage
	err := json.Unmarshal(data, &value)
	at := policy.Position{File: b.file}
	switch e, ok := errors.AsType[*json.SyntaxError](err); {
	case len(bytes.TrimSpace(data)) == 0:
		b.problem(at, "", "is empty, must be a map in JSON")
		return
	case err == nil:
		b.problem(positionOf(b.file, data, 0), "", "is not a map, must be one")
		return
	case ok:
		at = positionOf(b.file, data, max(int(e.Offset)-1, 0))
	}
	b.problem(at, "", "is not valid JSON here, must be: %s", shorten(err.Error()))
}

// A jsonReader follows a json.Decoder through the data, so that it knows where
// each token begins.
type jsonReader struct {
	*builder

	data    []byte
	decoder *json.Decoder
	offset  int // up to here lines are counted
	line    int
	begins  int // the offset at which line begins
}

// next returns the next token and where it begins.
func (r *jsonReader) next() (json.Token, policy.Position) {
	start := int(r.decoder.InputOffset())
	for start < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[start]) >= 0 {
		start++
	}
	for ; r.offset < start; r.offset++ {
		if r.data[r.offset] == '\n' {
			r.line++
			r.begins = r.offset + 1
		}
	}
	token, err := r.decoder.Token()
	if err != nil {
		panic(fmt.Sprintf("tree: valid JSON has no token at %d: %v", start, err))
	}
	return token, policy.Position{File: r.file, Line: r.line, Column: start - r.begins + 1}
}

func (r *jsonReader) value(path string, depth int) *Node {
	token, at := r.next()
	n := &Node{At: at}
	switch token := token.(type) {
	case json.Delim:
		if r.deep(depth+1, at) {
			r.skip()
			return nil
		}
		if token == '[' {
			n.Kind = List
			r.items(n, path, depth)
		} else {
			n.Kind = Map
			r.entries(n, path, depth)
		}
		r.next() // the closing delimiter
	case string:
		n.Kind, n.Value = Text, token
	case json.Number:
		n.Kind, n.Value = Number, token.String()
	case bool:
		n.Kind, n.Value = Bool, strconv.FormatBool(token)
	default:
		n.Kind = Null
	}
	return n
}

func (r *jsonReader) items(list *Node, path string, depth int) {
	for i := 0; r.decoder.More(); i++ {
		list.Items = append(list.Items, r.value(fmt.Sprintf("%s[%d]", path, i), depth+1))
	}
}

func (r *jsonReader) entries(m *Node, path string, depth int) {
	seen := map[string]policy.Position{}
	for r.decoder.More() {
		key, at := r.next()
		name := key.(string) // in valid JSON
		if value := r.value(Join(path, name), depth+1); value != nil {
			r.add(m, seen, Entry{name, at, value}, path)
		}
	}
}

// skip reads to the end of a map or list that was begun.
func (r *jsonReader) skip() {
	for open := 1; open > 0; {
		switch token, _ := r.next(); token {
		case json.Delim('['), json.Delim('{'):
			open++
		case json.Delim(']'), json.Delim('}'):
			open--
		}
	}
}
