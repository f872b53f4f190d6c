package conventions

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors are the packages of the root module that programs import, from the lowest
// floor to the highest. A package may import those of its own floor and of lower
// ones. What is not named belongs to the mechanisms, the second floor.
var floors = [][]string{
	{"."},
	nil, // timeout, retry, limit, trace, metrics ...: one for each mechanism
	{"interceptors"},
	{"balance"},
	{"policy", "policy/policyfile", "policy/serviceconfig", "statusz", "drain", "load/alarm"},
	{"cmd"},
}

const mechanisms = 1

// apart are directories that no package of the root module imports.
var apart = []string{"cmd", "examples", "test"}

// TestImports checks that imports go one way, that nothing imports programs and
// proof, that the core imports the standard library only, and that the mechanisms
// do without gRPC, indirectly as well.
func TestImports(t *testing.T) {
	for _, wrong := range wrongImports(imports(all(t, func(f *goFile) bool { return !f.test && !f.nested }))) {
		t.Error(wrong)
	}
}

// imports returns what each package imports, by directory: other packages of the
// module by directory too, as "./retry", and all others by path.
func imports(files []*goFile) map[string][]string {
	graph := map[string][]string{}
	for _, f := range files {
		for _, s := range f.tree.Imports {
			name, _ := strconv.Unquote(s.Path.Value)
			switch {
			case name == module:
				name = "./."
			case strings.HasPrefix(name, module+"/"):
				name = "./" + strings.TrimPrefix(name, module+"/")
			}
			if !slices.Contains(graph[f.dir], name) {
				graph[f.dir] = append(graph[f.dir], name)
			}
		}
	}
	return graph
}

func wrongImports(graph map[string][]string) (wrong []string) {
	for _, dir := range slices.Sorted(maps.Keys(graph)) {
		own, public := floor(dir)
		for _, name := range graph[dir] {
			other, ok := strings.CutPrefix(name, "./")
			above, _ := floor(other)
			switch {
			case !ok:
			case slices.ContainsFunc(apart, func(d string) bool { return within(other, d) && !within(dir, d) }):
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which no package may import", dir, other))
			case public && above > own:
				wrong = append(wrong, fmt.Sprintf("%s imports %s, which is above it", dir, other))
			}
		}
		if !public || own > mechanisms {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(reached(graph, dir, map[string]bool{}))) {
			first, _, _ := strings.Cut(name, "/")
			switch {
			case own == 0 && strings.Contains(first, "."):
				wrong = append(wrong, fmt.Sprintf("the core imports %s, and may import the standard library only", name))
			case within(name, "google.golang.org/grpc"):
				wrong = append(wrong, fmt.Sprintf("%s imports %s, directly or not, and may not", dir, name))
			}
		}
	}
	return wrong
}

// floor returns the floor of a directory, and whether it has one: what programs
// cannot import is on none.
func floor(dir string) (n int, public bool) {
	for i, dirs := range floors {
		if slices.Contains(dirs, dir) {
			return i, true
		}
	}
	first, _, _ := strings.Cut(dir, "/")
	if slices.Contains([]string{"internal", "proto", "test", "cmd", "examples"}, first) || strings.Contains(dir, "/internal") {
		return 0, false
	}
	return mechanisms, true
}

// reached returns the packages of other modules that dir imports, indirectly too.
func reached(graph map[string][]string, dir string, seen map[string]bool) map[string]bool {
	found := map[string]bool{}
	seen[dir] = true
	for _, name := range graph[dir] {
		other, ok := strings.CutPrefix(name, "./")
		if !ok {
			found[name] = true
		} else if !seen[other] {
			maps.Copy(found, reached(graph, other, seen))
		}
	}
	return found
}

// within reports whether name is dir or below it.
func within(name, dir string) bool { return name == dir || strings.HasPrefix(name, dir+"/") }

// A fault of each kind is found.
func TestImportsFindsFaults(t *testing.T) {
	good := map[string][]string{
		".":            {"context", "./internal/a"},
		"internal/a":   {"time"},
		"internal/b":   {"google.golang.org/grpc/codes"},
		"retry":        {"./.", "./timeout", "go.opentelemetry.io/otel"},
		"timeout":      {"./."},
		"interceptors": {"./retry", "./internal/b", "google.golang.org/grpc"},
		"balance":      {"./interceptors", "./internal/b"},
		"cmd/turret":   {"./balance", "./cmd/turret/internal/x"},
	}
	if got := wrongImports(good); len(got) > 0 {
		t.Errorf("found %q", got)
	}
	for _, tt := range []struct{ dir, name, want string }{
		{"timeout", "./interceptors", "is above it"},
		{"interceptors", "./balance", "is above it"},
		{".", "./retry", "is above it"},
		{"internal/a", "google.golang.org/protobuf/proto", "the core imports google.golang.org/protobuf/proto"},
		{"retry", "google.golang.org/grpc/codes", "retry imports google.golang.org/grpc/codes"},
		{"timeout", "./internal/b", "retry imports google.golang.org/grpc/codes, directly or not"},
		{"balance", "./examples/quickstart", "no package may import"},
		{"internal/b", "./test/bench", "no package may import"},
	} {
		bad := maps.Clone(good)
		bad[tt.dir] = append(slices.Clone(bad[tt.dir]), tt.name)
		if got := wrongImports(bad); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, tt.want) }) {
			t.Errorf("%s imports %s: found %q, want %q", tt.dir, tt.name, got, tt.want)
		}
	}
}
