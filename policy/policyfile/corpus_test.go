package policyfile_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	_ "google.golang.org/grpc/health/grpc_health_v1" // methods of the corpus

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
	_ "github.com/turret-go/turret/proto/turret/echo/v1" // methods of the corpus
)

var update = flag.Bool("update", false, "write the errors of testdata/wrong.txt anew")

// A wrong is a case of the corpus: one mistake in one or two forms, each with the
// errors that it leads to.
type wrong struct {
	name  string
	forms []form
}

type form struct{ kind, text, errors string }

// corpus reads testdata/wrong.txt: "== name", then for each form "--- yaml" or
// "--- json" with the file, and "--- errors" with the errors.
func corpus(t testing.TB) (all []wrong) {
	t.Helper()
	data, err := os.ReadFile("testdata/wrong.txt")
	if err != nil {
		t.Fatal(err)
	}
	into := new(string)
	for line := range strings.Lines(string(data)) {
		name, isCase := strings.CutPrefix(line, "== ")
		kind, isPart := strings.CutPrefix(line, "--- ")
		kind = strings.TrimSpace(kind)
		switch {
		case isCase:
			all = append(all, wrong{name: strings.TrimSpace(name)})
		case isPart && kind == "errors":
			forms := all[len(all)-1].forms
			into = &forms[len(forms)-1].errors
		case isPart && (kind == "yaml" || kind == "json"):
			w := &all[len(all)-1]
			w.forms = append(w.forms, form{kind: kind})
			into = &w.forms[len(w.forms)-1].text
		default:
			*into += line
		}
	}
	return all
}

func write(t *testing.T, all []wrong) {
	t.Helper()
	var b strings.Builder
	for _, w := range all {
		fmt.Fprintf(&b, "== %s\n", w.name)
		for _, f := range w.forms {
			fmt.Fprintf(&b, "--- %s\n%s--- errors\n%s", f.kind, f.text, f.errors)
		}
	}
	if err := os.WriteFile("testdata/wrong.txt", []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

// errorOf returns what is wrong with a file, found by either package.
func errorOf(f form) error {
	doc, err := policyfile.Parse("p."+f.kind, []byte(f.text))
	if err != nil {
		return err
	}
	_, err = policy.New(doc, policy.Config{})
	return err
}

func TestWrongFilesHaveTheirErrors(t *testing.T) {
	all := corpus(t)
	if len(all) < 60 {
		t.Errorf("the corpus has %d cases, want at least 60", len(all))
	}
	for i, w := range all {
		for j, f := range w.forms {
			t.Run(w.name+"/"+f.kind, func(t *testing.T) {
				err := errorOf(f)
				if err == nil {
					t.Fatal("no error")
				}
				checkErrors(t, f, err)
				got := err.Error() + "\n"
				if *update {
					all[i].forms[j].errors = got
				} else if got != f.errors {
					t.Errorf("got\n%swant\n%s", got, f.errors)
				}
			})
		}
	}
	if *update {
		write(t, all)
	}
}

// checkErrors checks what holds for every error: it has a file, a line and a
// path wherever there can be one, and says what must be.
func checkErrors(t *testing.T, f form, err error) {
	t.Helper()
	all, ok := errors.AsType[policy.Errors](err)
	if !ok {
		t.Fatalf("the error is a %T, want policy.Errors", err)
	}
	for _, p := range all {
		whole := strings.Contains(p.Text, "is empty") || strings.Contains(p.Text, "must be a map with rules") || strings.Contains(p.Text, "is not a map")
		if p.At.File == "" || p.At.Line == 0 && !whole {
			t.Errorf("%v: it has no position", p)
		}
		if p.At.Column == 0 && !whole && !strings.Contains(p.Text, "is not valid YAML") {
			t.Errorf("%v: it has no column", p)
		}
		bound := false
		for _, word := range []string{"must", "which has", "did you mean", "is not valid YAML", "but the program knows no", "such method"} {
			bound = bound || strings.Contains(p.Text, word)
		}
		if !bound {
			t.Errorf("%v: it does not say what must be", p)
		}
		if p.At.Line > strings.Count(f.text, "\n")+1 {
			t.Errorf("%v: the file has %d lines", p, strings.Count(f.text, "\n"))
		}
	}
}
