// Package docs tests the documents of the repository: what they show as Go
// compiles, and what they point to exists.
package docs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// top is the directory of the repository.
const top = "../.."

// documents returns the Markdown files of the repository.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "doc/*.md", "doc/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) < 5 {
		t.Fatalf("found only %v", files)
	}
	return files
}

// A block is a fenced block of Go in a document.
type block struct {
	line int
	text string
}

var fence = regexp.MustCompile("(?ms)^```go\n(.*?)^```")

func goBlocks(text string) []block {
	var blocks []block
	for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
		blocks = append(blocks, block{1 + strings.Count(text[:at[2]], "\n"), text[at[2]:at[3]]})
	}
	return blocks
}

// TestGoCompiles vets every block that is a whole file, and looks every other
// one up in the example programs, which are compiled and tested.
func TestGoCompiles(t *testing.T) {
	examples := exampleCode(t)
	for _, file := range documents(t) {
		for _, b := range goBlocks(read(t, file)) {
			t.Run(fmt.Sprintf("%s:%d", filepath.Base(file), b.line), func(t *testing.T) {
				t.Parallel()
				if !strings.Contains(b.text, "package ") {
					if !strings.Contains(examples, normal(b.text)) {
						t.Errorf("not a whole file, and in no example program:\n%s", b.text)
					}
					return
				}
				vet(t, b.text)
			})
		}
	}
}

// vet compiles code as a file of the examples' module, which imports all that
// the documents do.
func vet(t *testing.T, code string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(name, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "vet", name)
	cmd.Dir = filepath.Join(top, "examples")
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}

// exampleCode returns the code of all example programs.
func exampleCode(t *testing.T) string {
	t.Helper()
	var code strings.Builder
	files, err := filepath.Glob(filepath.Join(top, "examples", "*", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		code.WriteString(normal(read(t, file)))
	}
	return code.String()
}

// normal returns code without what indentation and blank lines make different.
func normal(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

var (
	anyFence = regexp.MustCompile("(?ms)^```.*?^```")
	link     = regexp.MustCompile(`\]\(([^)#:]*)(?:#([^)]*))?\)`)
)

// TestLinks looks for every file that a document points to, and for the heading
// in it.
func TestLinks(t *testing.T) {
	for _, file := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(anyFence.ReplaceAllString(read(t, file), ""), -1) {
			to := file
			if m[1] != "" {
				to = filepath.Join(filepath.Dir(file), m[1])
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s points to %s: %v", file, m[1], err)
			} else if m[2] != "" && !anchors(read(t, to))[m[2]] {
				t.Errorf("%s points to %s, which has no heading #%s", file, to, m[2])
			}
		}
	}
}

// anchors returns what the headings of a document are called in links, as
// GitHub does it.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(anyFence.ReplaceAllString(text, ""), -1) {
		all[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return all
}

// TestTables counts the cells of every row of a table.
func TestTables(t *testing.T) {
	for _, file := range documents(t) {
		cells, n := 0, 0
		for line := range strings.Lines(anyFence.ReplaceAllStringFunc(read(t, file), blank)) {
			n++
			switch {
			case !strings.HasPrefix(line, "|"):
				cells = 0
			case cells == 0:
				cells = strings.Count(line, "|")
			case strings.Count(line, "|") != cells:
				t.Errorf("%s:%d has %d bars, the rows before it %d", file, n, strings.Count(line, "|"), cells)
			}
		}
	}
}

// blank returns as many empty lines as text has.
func blank(text string) string { return strings.Repeat("\n", strings.Count(text, "\n")) }

// TestBadCodeIsNoticed makes sure that the tests above can fail.
func TestBadCodeIsNoticed(t *testing.T) {
	blocks := goBlocks("text\n```go\npackage main\n```\nmore\n```text\nno\n```\n")
	if len(blocks) != 1 || blocks[0] != (block{3, "package main\n"}) {
		t.Errorf("found %v", blocks)
	}
	if got := anchors("# `A` b-c, 2!\n```sh\n# no\n```\n"); len(got) != 1 || !got["a-b-c-2"] {
		t.Errorf("found %v", got)
	}
	name := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(name, []byte("package main\n\nfunc main() { undefined() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "vet", name)
	cmd.Dir = filepath.Join(top, "examples")
	if err := cmd.Run(); err == nil {
		t.Error("go vet accepts a call of a function that does not exist")
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
