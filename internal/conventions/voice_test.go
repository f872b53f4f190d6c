package conventions

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// people matches words for people: identifiers and things are the subjects of
// comments. plain matches what is allowed, with people as the subject.
var (
	people = regexp.MustCompile(`(?i)\b(who|whoever|whom|nobody|anybody|somebody|everybody|told|hears?|heard)\b`)
	plain  = regexp.MustCompile(`(?i)\b(contributors|engineers|maintainers|operators|people|readers|users) who\b`)
)

// TestPlainWords looks for words for people in comments and documents.
func TestPlainWords(t *testing.T) {
	for _, f := range all(t, func(f *goFile) bool { return !f.generated }) {
		for _, wrong := range peopleInComments(f) {
			t.Error(wrong)
		}
	}
	n := 0
	for _, pattern := range []string{"*.md", "doc/*.md", "doc/*/*.md", "Makefile", ".ci/run", ".golangci.yml"} {
		names, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			n++
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			for _, wrong := range peopleInText(strings.TrimPrefix(filepath.ToSlash(name), top+"/"), string(text)) {
				t.Error(wrong)
			}
		}
	}
	if n < 15 {
		t.Errorf("found only %d documents", n)
	}
}

func peopleInComments(f *goFile) (wrong []string) {
	for _, group := range f.tree.Comments {
		first := f.set.Position(group.Pos()).Line
		var text strings.Builder
		for _, c := range group.List {
			text.WriteString(c.Text + "\n")
		}
		wrong = append(wrong, findPeople(f.name, text.String(), first)...)
	}
	return wrong
}

var (
	fenced = regexp.MustCompile("(?ms)^```.*?^```")
	code   = regexp.MustCompile("`[^`\n]*`|\\]\\([^)]*\\)")
)

// peopleInText looks at a document, without its code and the targets of its links.
func peopleInText(name, text string) []string {
	blank := func(s string) string { return strings.Repeat("\n", strings.Count(s, "\n")) }
	text = fenced.ReplaceAllStringFunc(text, blank)
	return findPeople(name, code.ReplaceAllString(text, "_"), 1)
}

// findPeople looks at text, which begins at a line of the file.
func findPeople(name, text string, first int) (wrong []string) {
	text = plain.ReplaceAllString(text, "")
	for _, at := range people.FindAllStringIndex(text, -1) {
		line := first + strings.Count(text[:at[0]], "\n")
		wrong = append(wrong, fmt.Sprintf("%s:%d says %q of code: name the thing, and what it does (CONTRIBUTING.md, Words)", name, line, text[at[0]:at[1]]))
	}
	return wrong
}

// A fault of each kind is found.
func TestPlainWordsFindsFaults(t *testing.T) {
	f := must(t, "p/p.go", "package p\n\n// The one\n// who waits. Users who wait.\nvar who = `told` // nobody\n")
	want := `p/p.go:4 says "who" p/p.go:5 says "nobody"`
	if got := brief(peopleInComments(f)); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	text := "Whoever is\n`told`, [is](who.md)\n```go\n// who\n```\nheard by operators who\n"
	want = `a.md:1 says "Whoever" a.md:6 says "heard"`
	if got := brief(peopleInText("a.md", text)); got != want {
		t.Errorf("found %s, want %s", got, want)
	}
}

// brief keeps the beginning of each message.
func brief(messages []string) string {
	for i, m := range messages {
		messages[i], _, _ = strings.Cut(m, " of code")
	}
	return strings.Join(messages, " ")
}
