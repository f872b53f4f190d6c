// Command reference writes the reference of policies into doc/policy.md: every
// field of the schema with its comment. It is run at the top of the repository:
//
//	go run ./policy/internal/reference
package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

const (
	schema   = "proto/turret/policy/v1/policy.proto"
	document = "doc/policy.md"
	begin    = "<!-- reference: go run ./policy/internal/reference -->\n"
	end      = "<!-- end of the reference -->\n"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run() error {
	proto, err := os.ReadFile(schema)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	changed, err := replace(string(text), Reference(string(proto)))
	if err != nil {
		return err
	}
	return os.WriteFile(document, []byte(changed), 0o644) //nolint:gosec // a document
}

// replace puts the reference between its marks.
func replace(text, reference string) (string, error) {
	before, rest, ok := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", fmt.Errorf("%s has no %q and %q", document, begin, end)
	}
	return before + begin + "\n" + reference + "\n" + end + after, nil
}

var (
	opens = regexp.MustCompile(`^(message|enum) (\w+) \{`)
	field = regexp.MustCompile(`^\s+(?:(repeated|optional) )?([\w.]+) (\w+) = \d+;`)
	value = regexp.MustCompile(`^\s+[A-Z]\w*? = \d+;`)
)

// Reference returns the messages and enums of a .proto file as Markdown: a table
// of fields each, with their comments.
func Reference(proto string) string {
	var b strings.Builder
	var comment []string
	enum, skip := "", false
	for line := range strings.Lines(proto) {
		line = strings.TrimRight(line, "\n")
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "//"); ok {
			comment = append(comment, strings.TrimSpace(text))
			continue
		}
		said := strings.ReplaceAll(strings.Join(comment, " "), "|", "\\|")
		switch m := opens.FindStringSubmatch(line); {
		case m != nil:
			enum, skip = "", m[2] == "Code"
			if m[1] == "enum" {
				enum = m[2]
			}
			if skip {
				fmt.Fprintf(&b, "### Code\n\n%s By name: UNAVAILABLE.\n\n", said)
				break
			}
			fmt.Fprintf(&b, "### %s\n\n%s\n\n| %s | |\n|---|---|\n", m[2], said, m[1])
		case skip:
		case enum != "" && value.MatchString(line):
			name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
			if _, short, ok := strings.Cut(name, strings.ToUpper(enum)+"_"); ok && short != "UNSPECIFIED" {
				fmt.Fprintf(&b, "| `%s` | %s |\n", short, said)
			}
		case field.MatchString(line):
			f := field.FindStringSubmatch(line)
			fmt.Fprintf(&b, "| `%s`: %s | %s |\n", f[3], typeOf(f[1], f[2]), said)
		case strings.HasPrefix(line, "extend "):
			skip = true
		case line == "}":
			if !skip {
				b.WriteString("\n")
			}
		}
		comment = nil
	}
	return strings.TrimSpace(b.String()) + "\n"
}

// typeOf returns the type of a field in words.
func typeOf(label, name string) string {
	word := map[string]string{
		"google.protobuf.Duration": "duration", "int32": "whole number", "double": "number", "bool": "true or false", "string": "text",
	}[name]
	if word == "" {
		word = name
		if !strings.Contains(name, ".") {
			word = "[" + name + "](#" + strings.ToLower(name) + ")"
		}
	}
	if label == "repeated" {
		return "list of " + word
	}
	return word
}
