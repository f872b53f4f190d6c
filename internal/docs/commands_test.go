package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// shell is a fenced block of commands, and span a piece of code in the text.
	shell = regexp.MustCompile("(?ms)^```sh\n(.*?)^```")
	span  = regexp.MustCompile("`([^`\n]+)`")
	// remark is what follows a command, and setting what precedes it.
	remark  = regexp.MustCompile(`\s+#.*`)
	setting = regexp.MustCompile(`^[A-Z]+=\S*\s+`)
)

// TestCommands looks up what the commands of the documents name: targets of
// make, steps of .ci/run, files and folders, and tests and benchmarks to run. It
// runs none of them.
func TestCommands(t *testing.T) {
	known := commandNames(t)
	found := 0
	for _, file := range documents(t) {
		for _, command := range commands(read(t, file)) {
			found++
			for _, wrong := range wrongCommand(command, known) {
				t.Errorf("%s: %s: %s", file, command, wrong)
			}
		}
	}
	for _, m := range regexp.MustCompile(`BENCH=([A-Z]\w*)`).FindAllStringSubmatch(read(t, filepath.Join(top, "Makefile")), -1) {
		for _, wrong := range unmatched(m[1], known.benchmarks) {
			t.Errorf("Makefile: %s", wrong)
		}
	}
	if found < 30 {
		t.Errorf("found only %d commands", found)
	}
}

// commands returns what text shows as a command of make, go or .ci/run.
func commands(text string) (all []string) {
	for _, block := range shell.FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	for _, m := range span.FindAllStringSubmatch(anyFence.ReplaceAllString(text, ""), -1) {
		all = append(all, m[1])
	}
	for i, command := range all {
		all[i] = remark.ReplaceAllString(command, "")
	}
	return slices.DeleteFunc(all, func(command string) bool {
		_, rest := folder(command)
		program, _, _ := strings.Cut(rest, " ")
		return !slices.Contains([]string{"make", "go", ".ci/run"}, program)
	})
}

// folder returns where a command runs, below the top, and the command itself.
func folder(command string) (dir, rest string) {
	if after, ok := strings.CutPrefix(command, "cd "); ok {
		if into, then, ok := strings.Cut(after, " && "); ok {
			dir, command = into, then
		}
	}
	return dir, setting.ReplaceAllString(command, "")
}

// names are what commands may name.
type names struct {
	targets, steps    []string
	tests, benchmarks []string
}

func commandNames(t *testing.T) names {
	t.Helper()
	var n names
	for _, m := range regexp.MustCompile(`(?m)^([a-z-]+):`).FindAllStringSubmatch(read(t, filepath.Join(top, "Makefile")), -1) {
		n.targets = append(n.targets, m[1])
	}
	for _, m := range regexp.MustCompile(`(?m)^step_([a-z]+)\(\)`).FindAllStringSubmatch(read(t, filepath.Join(top, ".ci/run")), -1) {
		n.steps = append(n.steps, m[1])
	}
	for name := range testFunctions(t) {
		if strings.HasPrefix(name, "Benchmark") {
			n.benchmarks = append(n.benchmarks, name)
		} else {
			n.tests = append(n.tests, name)
		}
	}
	return n
}

// wrongCommand returns what a command names that does not exist.
func wrongCommand(command string, known names) (wrong []string) {
	dir, rest := folder(command)
	if _, err := os.Stat(filepath.Join(top, dir)); err != nil {
		wrong = append(wrong, "there is no folder "+dir)
	}
	words := strings.Fields(strings.ReplaceAll(rest, "'", ""))
	for i, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		before := words[i]
		switch {
		case name == "BENCH" || before == "-bench":
			wrong = append(wrong, unmatched(strings.TrimPrefix(word, "BENCH="), known.benchmarks)...)
		case before == "-run":
			wrong = append(wrong, unmatched(word, known.tests)...)
		case name == "-modfile":
			wrong = append(wrong, absent(dir, value)...)
		case strings.HasPrefix(word, "./") && before != "-doc":
			wrong = append(wrong, absent(dir, strings.TrimSuffix(word, "..."))...)
		case strings.ContainsAny(word, "-=") && words[0] != "make" || strings.Contains(word, "="):
			// a flag, a variable
		case words[0] == "make" && !slices.Contains(known.targets, word):
			wrong = append(wrong, "make has no target "+word)
		case words[0] == ".ci/run" && word != "STEP" && !slices.Contains(known.steps, word):
			wrong = append(wrong, ".ci/run has no step "+word)
		}
	}
	return wrong
}

// unmatched returns an error text if no function matches the first part of a
// pattern, which the other parts refine.
func unmatched(pattern string, functions []string) []string {
	first, _, _ := strings.Cut(pattern, "/")
	matches, err := regexp.Compile(first)
	if err != nil || !slices.ContainsFunc(functions, matches.MatchString) && first != "^$" {
		return []string{"nothing matches " + pattern}
	}
	return nil
}

func absent(dir, path string) []string {
	if _, err := os.Stat(filepath.Join(top, dir, path)); err != nil {
		return []string{"there is no " + filepath.Join(dir, path)}
	}
	return nil
}

// What is wrong is found.
func TestCommandsFindsFaults(t *testing.T) {
	known := names{targets: []string{"test-nested"}, steps: []string{"fuzz"}, tests: []string{"TestA"}, benchmarks: []string{"BenchmarkB"}}
	for command, want := range map[string]int{
		"make": 0, "make test-nested BENCH=B": 0, "make test": 1, "make test-nested BENCH=A": 1,
		".ci/run": 0, ".ci/run -h": 0, ".ci/run fuzz STEP": 0, ".ci/run fizz": 1,
		"cd test/mutants && GOWORK=off go test -run '^TestA$' -v .": 0,
		"cd mutant && go test -run '^TestB$' .":                     2,
		"go test ./internal/docs/... -run '^$' -bench 'A|B/n'":      0,
		"go test ./internal/doc -bench A/n":                         2,
		"go tool -modfile=test/mutants/main.go x":                   0,
		"go tool -modfile=test/mutants/min.go x":                    1,
	} {
		if got := wrongCommand(command, known); len(got) != want {
			t.Errorf("%s: %q, want %d faults", command, got, want)
		}
	}
	text := "`make x` and `maker`, `cd y && A=b go z`, `type T`\n```sh\n.ci/run w   # why\n```\n```text\nmake v\n```\n"
	if got, want := commands(text), []string{".ci/run w", "make x", "cd y && A=b go z"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
