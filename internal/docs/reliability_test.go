package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// namedTest is a test in a document, and the file that the document names for it.
	namedTest = regexp.MustCompile("\\[`((?:Test|Fuzz)[A-Z]\\w*)`\\]\\(([^)#]+)\\)")
	// anyTest is every test that a document names, with or without a file.
	anyTest = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w*`)
	// fault is a row of the table of faults: name, promise, tests.
	fault = regexp.MustCompile("(?m)^\\| `([a-z0-9-]+)` \\| (.*?) \\| (.*?) \\|$")
	// quoted is a name of a fault, or of anything else, in the text.
	quoted = regexp.MustCompile("`([a-z]+(?:-[a-z0-9]+)+)`")
)

// TestReliability looks up every test and every fault that the documents on
// reliability name, and that no fault is left out.
func TestReliability(t *testing.T) {
	functions := testFunctions(t)
	for _, name := range []string{"doc/reliability.md", "SECURITY.md"} {
		file := filepath.Join(top, name)
		for _, wrong := range wrongTests(read(t, file), filepath.Dir(file), functions) {
			t.Errorf("%s: %s", name, wrong)
		}
	}
	text, faults := read(t, filepath.Join(top, "doc/reliability.md")), promises(t)
	for _, wrong := range wrongFaults(text, faults) {
		t.Errorf("doc/reliability.md: %s", wrong)
	}
}

// testFunctions returns the tests, fuzz targets and benchmarks of the repository,
// nested modules too, each with the files that it is in. Suites that others run are tests here.
func testFunctions(t *testing.T) map[string][]string {
	t.Helper()
	functions := map[string][]string{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)[A-Z]\w*)\(`)
	err := filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		for _, m := range function.FindAllStringSubmatch(read(t, path), -1) {
			functions[m[1]] = append(functions[m[1]], filepath.Clean(path))
		}
		return nil
	})
	if err != nil || len(functions) < 100 {
		t.Fatalf("found %d tests: %v", len(functions), err)
	}
	return functions
}

// wrongTests returns what is wrong with the tests that text names, in a document
// of dir.
func wrongTests(text, dir string, functions map[string][]string) (wrong []string) {
	for _, m := range namedTest.FindAllStringSubmatch(text, -1) {
		file := filepath.Clean(filepath.Join(dir, m[2]))
		found := false
		for _, in := range functions[m[1]] {
			found = found || in == file
		}
		if !found {
			wrong = append(wrong, m[1]+" is not in "+m[2])
		}
	}
	for _, name := range anyTest.FindAllString(text, -1) {
		if functions[name] == nil {
			wrong = append(wrong, name+" does not exist")
		}
	}
	return wrong
}

// promises returns what the faults in test/mutants/ break, by their names.
func promises(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, "test/mutants", "*.mutant"))
	if err != nil || len(files) == 0 {
		t.Fatalf("found no faults: %v", err)
	}
	all := map[string]string{}
	for _, file := range files {
		line, _, _ := strings.Cut(read(t, file), "\n")
		all[strings.TrimSuffix(filepath.Base(file), ".mutant")] = strings.TrimPrefix(line, "Promise: ")
	}
	return all
}

// wrongFaults returns what is wrong with the faults that text names.
func wrongFaults(text string, promises map[string]string) (wrong []string) {
	listed := map[string]bool{}
	for _, m := range fault.FindAllStringSubmatch(text, -1) {
		switch promise, ok := promises[m[1]]; {
		case !ok:
			wrong = append(wrong, "there is no fault "+m[1])
		case promise != m[2]:
			wrong = append(wrong, m[1]+" breaks that "+promise)
		case !strings.Contains(m[3], "Test") && !strings.Contains(m[3], "Fuzz"):
			wrong = append(wrong, m[1]+" is caught by no test")
		}
		listed[m[1]] = true
	}
	for name := range promises {
		if !listed[name] {
			wrong = append(wrong, name+" is not in the table")
		}
	}
	for _, m := range quoted.FindAllStringSubmatch(text, -1) {
		if _, ok := promises[m[1]]; !ok && !strings.HasPrefix(m[1], "grpc-") {
			wrong = append(wrong, "there is no fault "+m[1])
		}
	}
	return wrong
}

// What is wrong is found.
func TestReliabilityFindsFaults(t *testing.T) {
	functions := map[string][]string{"TestA": {"x/a_test.go"}, "FuzzB": {"x/b_test.go"}}
	for text, want := range map[string]int{
		"[`TestA`](../x/a_test.go), `FuzzB`": 0,
		"[`TestA`](../x/b_test.go)":          1,
		"`TestC`, caught by FuzzD":           2,
	} {
		if got := wrongTests(text, "doc", functions); len(got) != want {
			t.Errorf("%s: %q, want %d faults", text, got, want)
		}
	}
	known := map[string]string{"one-way": "it holds", "two-way": "it holds too"}
	rows := "| `one-way` | it holds | TestA |\n| `two-way` | it holds too | FuzzB |\n"
	for text, want := range map[string]int{
		rows:                                    0,
		rows + "by `one-way`, not `three-way`":  1,
		strings.Replace(rows, "too", "not", 1):  1,
		strings.Replace(rows, "FuzzB", "", 1):   1,
		strings.TrimSuffix(rows, "B |\n") + "B": 1,
	} {
		if got := wrongFaults(text, known); len(got) != want {
			t.Errorf("%s: %q, want %d faults", text, got, want)
		}
	}
}
