package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// mostEntries is how many folders the top level may have.
const mostEntries = 30

// TestContributing checks CONTRIBUTING.md: its list of CI's steps is that of
// .ci/run, in its order; its table of places has every folder of the top level; its
// glossary is short.
func TestContributing(t *testing.T) {
	text := read(t, filepath.Join(top, "CONTRIBUTING.md"))
	if got, want := named(section(text, "What CI does")), ciSteps(t); !slices.Equal(got, want) {
		t.Errorf("the steps of CI are %q, and CONTRIBUTING.md has %q", want, got)
	}

	folders := folders(t)
	if len(folders) > mostEntries {
		t.Errorf("the top level has %d folders, at most %d are allowed: %q", len(folders), mostEntries, folders)
	}
	places := named(section(text, "Where things are"))
	for _, folder := range folders {
		if !slices.Contains(places, folder+"/") {
			t.Errorf("CONTRIBUTING.md does not say what is in %s/", folder)
		}
	}
	for _, place := range places {
		if _, err := os.Stat(filepath.Join(top, place)); err != nil && !strings.Contains(place, "*") {
			t.Errorf("CONTRIBUTING.md says what is in %s: %v", place, err)
		}
	}

	_, glossary, _ := strings.Cut(section(text, "Words"), "| word | meaning |")
	if n := len(regexp.MustCompile(`(?m)^\| \w`).FindAllString(glossary, -1)); n == 0 || n > 20 {
		t.Errorf("the glossary has %d words, at most 20 are allowed", n)
	}
}

// section returns the text below a heading, up to the next one of its level.
func section(text, title string) string {
	_, text, _ = strings.Cut(text, "\n## "+title+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// named returns what the first columns of the tables in text name as code.
func named(text string) (names []string) {
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(text, -1) {
		for _, m := range span.FindAllStringSubmatch(row[1], -1) {
			names = append(names, m[1])
		}
	}
	return names
}

// ciSteps returns the steps that .ci/run runs by itself.
func ciSteps(t *testing.T) []string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^all=\(([^)]*)\)`).FindStringSubmatch(read(t, filepath.Join(top, ".ci/run")))
	if m == nil {
		t.Fatal("found no steps in .ci/run")
	}
	return strings.Fields(m[1])
}

// folders returns the folders of the top level whose names do not begin with a dot
// or an underscore.
func folders(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(top)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.IsDir() && !strings.ContainsAny(e.Name()[:1], "._") {
			names = append(names, e.Name())
		}
	}
	return names
}
