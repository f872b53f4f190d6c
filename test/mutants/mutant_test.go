package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const code = "\nIn: x/y T.M\n- a\n+ b\n  c\nIn: z f\n-d\n"
	m, err := parse("Promise: it holds: always\nModule: test/bench\nTests: ./x -run TestX\n" + code)
	if err != nil {
		t.Fatal(err)
	}
	want := []change{{"x/y", "T.M", " a\n c\n", " b\n c\n"}, {"z", "f", "d\n", ""}}
	if m.promise != "it holds: always" || m.module != "test/bench" || strings.Join(m.tests, "|") != "./x|-run|TestX" || !reflect.DeepEqual(m.changes, want) {
		t.Errorf("parsed as %+v", m)
	}
	for want, text := range map[string]string{
		"Promise":             "Tests: ./x\n" + code,
		"Tests":               "Promise: it holds\n" + code,
		`no line "In`:         "Promise: it holds\nTests: ./x\n",
		"before the first":    "Promise: it holds\nTests: ./x\n- a\n",
		"nothing is":          "Promise: it holds\nTests: ./x\nIn: x f\n+ a\n",
		"in z f nothing is":   "Promise: it holds\nTests: ./x\nIn: z f\n  a\n",
		"name of a declarat":  "Promise: it holds\nTests: ./x\nIn: x\n- a\n",
		"line 2: \"Test\" is": "Promise: it holds\nTest: ./x\nIn: x f\n- a\n",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error is %v, want one with %q", text, err, want)
		}
	}
}

const sample = `package p

var limit = 3

type T[E any] struct{ n int }

// M is a method.
func (t *T[E]) M() int {
	if t.n > 0 && // why
		t.n < limit {
		return t.n
	}
	return t.n
}

func f() {}
`

func TestFind(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "p", "p.go"), sample)
	for name, tt := range map[string]struct {
		change
		want string // of the file, or of the error
	}{
		"part of an expression":  {change{"p", "T.M", "t.n > 0 && t.n < limit", "true"}, "if true {"},
		"over a comment":         {change{"p", "T.M", "if t.n > 0 && t.n < limit {\nreturn t.n }", ""}, "M() int {\n\t\n\treturn t.n"},
		"a variable":             {change{"p", "limit", "3", "4"}, "var limit = 4\n"},
		"a type":                 {change{"p", "T", "n int", "n uint"}, "struct{ n uint }"},
		"a whole signature":      {change{"p", "f", "f() {}", "f() { f() }"}, "func f() { f() }"},
		"a function that is not": {change{"p", "T.N", "return t.n", ""}, "package p has no T.N"},
		"code that is not":       {change{"p", "f", "return", ""}, "p f does not have this code"},
		"code that is there":     {change{"p", "T.M", "return t.n", "return 0"}, "has this code 2 times"},
		"code that has moved":    {change{"p", "f", "t.n > 0", "true"}, "it is in p T.M now"},
		"a part of a word":       {change{"p", "limit", "lim", "max"}, "does not have this code"},
		"what does not compile":  {change{"p", "T.M", "if", "func"}, "with this mutant"},
	} {
		t.Run(name, func(t *testing.T) {
			changed, err := (&mutant{changes: []change{tt.change}}).apply(root)
			got := string(changed[filepath.Join(root, "p", "p.go")])
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %q", got, tt.want)
			}
		})
	}
}

// Several changes of one file apply together, and a name that is declared twice is
// refused.
func TestApplyOrder(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "p", "p.go")
	write(t, file, sample)
	m := &mutant{changes: []change{{"p", "limit", "3", "33333"}, {"p", "f", "{}", "{ f() }"}, {"p", "T.M", "t.n > 0", "true"}}}
	changed, err := m.apply(root)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("= 3", "= 33333", "f() {}", "f() { f() }", "t.n > 0", "true").Replace(sample)
	if got := string(changed[file]); got != want {
		t.Errorf("changed to\n%s\nwant\n%s", got, want)
	}
	write(t, filepath.Join(root, "p", "q.go"), "package p\n\nfunc f() { return }\n")
	if _, err := m.apply(root); err == nil || !strings.Contains(err.Error(), "has f 2 times") {
		t.Errorf("error is %v", err)
	}
}

// A mutant whose code has moved to one other declaration can be mended.
func TestMend(t *testing.T) {
	root := t.TempDir()
	write(t, filepath.Join(root, "p", "p.go"), sample)
	file := filepath.Join(root, "m.mutant")
	write(t, file, "Promise: it holds\nTests: ./p\n\nIn: old T.N\n- t.n > 0\n+ true\n")
	mutants, err := load(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := mendAll(mutants, root); err != nil {
		t.Fatal(err)
	}
	if mutants, err = load(root, []string{"m"}); err != nil || mutants[0].changes[0].String() != "p T.M" {
		t.Errorf("mended as %v, error %v", mutants[0].changes, err)
	}
	write(t, file, "Promise: it holds\nTests: ./p\n\nIn: p T.N\n- return t.n\n+ return 0\n")
	if mutants, err = load(root, nil); err != nil {
		t.Fatal(err)
	}
	if err := mendAll(mutants, root); err == nil || !strings.Contains(err.Error(), "has no T.N") {
		t.Errorf("error is %v", err)
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
