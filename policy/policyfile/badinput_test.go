//go:build unix

package policyfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/policyfile"
)

// A file of 16 MiB may have millions of values, which would take gigabytes to read.
// It is refused before that, and there are no more problems than a reader can use.
func TestFilesOfTooMuch(t *testing.T) {
	const rule = "rules:\n- {name: a, methods: [\"/*\"], client: {timeout: 1s}}\n- {name: b, client: {timeout: 1s}, methods: ["
	fill := func(head, s, tail string) string { return head + strings.Repeat(s, (16<<20-100)/len(s)) + tail }
	much := func(s string) string { return strings.Repeat(s, (1<<20)/len(s)) }
	few := func(head, s, tail string) string { return head + strings.Repeat(s, 2_000) + tail }
	for _, tt := range []struct{ name, text, want string }{
		{"lists", fill("rules: [", "a,", "]"), "opening brackets and line ends, must have at most 1000000"},
		{"JSON", fill(`{"rules": [`, "1,", "1]}"), "opening brackets and line ends, must have at most 1000000"},
		{"lines", fill("", "a: b\n", ""), "opening brackets and line ends, must have at most 1000000"},
		{"text", "rules: \"" + much("a") + "\"", "rules is \"aaaa"},
		{"a comment", "#" + much("a"), "is empty, must have rules"},
		{"nested lists", much("- "), "is not valid YAML: exceeded max depth"},
		{"nested keys", much("? "), "is not valid YAML: exceeded max depth"},
		{"zeros", much("\x00"), "is not valid YAML: control characters"},
		{"wrong rules", few("rules: [", "a,", "]"), "rules[0] is \"a\", must be a map"},
		{"unknown fields", few("rules:\n", "- a: b\n", ""), "is not a field of Rule"},
		{"a key many times", few("", "rules: b\n", ""), "rules is given twice"},
		{"codes", few("rules:\n- {name: a, methods: [\"/*\"], client: {retry: {codes: [", "INTERNAL,", "]}}}"), "has 2000 values, must have at most 16"},
		{"wrong codes", few("rules:\n- {name: a, methods: [\"/*\"], client: {retry: {codes: [", "INTERNL,", "]}}}"), "did you mean INTERNAL?"},
		{"a pattern many times", few(rule, "\"/*\",", "]}"), "which the rule has twice"},
		{"unknown methods", few(rule, "\"/a.B/C\",", "]}"), "but the program knows no service a.B"},
		{"anchors", few("rules: [", "&a b,", "]"), "has an anchor"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			document, err := policyfile.Parse("p.yaml", []byte(tt.text))
			if err == nil {
				_, err = policy.New(document, policy.Config{})
			}
			all, _ := errors.AsType[policy.Errors](err)
			if len(all) == 0 || !strings.Contains(all.Error(), tt.want) {
				t.Fatalf("the error is %.300v, want %q", err, tt.want)
			}
			if len(all) > 1_001 {
				t.Errorf("there are %d problems", len(all))
			}
		})
	}
}

// Two rules with the same thousands of methods are compared in no time.
func TestRulesOfManyMethods(t *testing.T) {
	methods := func(from, step int) string {
		var b strings.Builder
		for i := range 5_000 {
			fmt.Fprintf(&b, "\"/a.B/M%d\",", from+step*i)
		}
		return b.String()
	}
	text := "rules:\n- {name: a, client: {hedge: {}}, methods: [" + methods(0, 1) + "]}\n- {name: b, client: {hedge: {}}, methods: [" + methods(4_999, -1) + "]}\n" +
		"- {name: c, mode: SHADOW, server: {timeout: 1s}, methods: [" + methods(5, 1) + "]}\n"
	document, err := policyfile.Parse("p.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	_, err = policy.New(document, policy.Config{UnknownMethods: true})
	if err == nil || !strings.Contains(err.Error(), "client.hedge applies to /a.B/M4999 (and 4999 more), and so does that of rule \"a\"") {
		t.Errorf("the error is %.500v", err)
	}
}

// Whatever takes the place of the file is reported once, the policy stays, and a
// file that is right is loaded afterwards.
func TestWatchGoesOnAfterBadInput(t *testing.T) {
	write := func(text string) func(name string) error {
		return func(name string) error { return os.WriteFile(name, []byte(text), 0o600) }
	}
	for _, tt := range []struct {
		name string
		put  func(name string) error
		want string
	}{
		{"a directory", func(name string) error { return os.Mkdir(name, 0o700) }, "is a directory, must be a regular file"},
		{"a pipe", func(name string) error { return syscall.Mkfifo(name, 0o600) }, "is a pipe, must be a regular file"},
		{"a device", func(name string) error { return os.Symlink(os.DevNull, name) }, "is a device, must be a regular file"},
		{"a link to itself", func(name string) error { return os.Symlink(name, name) }, "too many levels of symbolic links"},
		{"a link to nothing", func(name string) error { return os.Symlink(name+".gone", name) }, "no such file"},
		{"more than 16 MiB", func(name string) error { return errors.Join(write("")(name), os.Truncate(name, 16<<20+1)) }, "is longer than 16777216 bytes"},
		{"too many values", write("rules: [" + strings.Repeat("a,", 1<<20) + "]"), "must have at most 1000000"},
		{"nothing", write(""), "is empty, must have rules"},
		{"invalid UTF-8", write("rules:\n- name: caf\xe9\n"), "policy.yaml:2:12: is not valid UTF-8 here"},
		{"deep nesting", write("rules: " + strings.Repeat("[", 200) + strings.Repeat("]", 200)), "nested more than 100 deep"},
		{"an anchor", write("rules: &a []\n"), "has an anchor (&a)"},
		{"aliases", write("a: &a [x,x]\nb: &b [*a,*a]\nrules: [*b,*b]\n"), "is an alias (*b)"},
		{"a key twice", write(limited("2") + "rules: []\n"), "policy.yaml:3:1: rules is given twice"},
		{"a merge key", write("rules:\n- <<: {name: b}\n"), "has a merge key"},
		{"two documents", write(limited("2") + "---\n" + limited("3")), "has a second document here"},
		{"no YAML", write("rules: {\n"), "is not valid YAML"},
		{"no policy", write("rules:\n- {name: b}\n"), "rules[0].methods is missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := file(t)
			watch(t, name, func(w *watched) {
				must(t, os.Remove(name))
				must(t, tt.put(name))
				w.after(4)
				w.has("1", 1)
				if err := w.reports[0].Err; err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the report is %v, want %q", err, tt.want)
				}
				must(t, os.RemoveAll(name))
				put(t, name, limited("2"))
				w.after(2)
				w.has("2", 2)
			})
		})
	}
}

// A file that is cut off anywhere, which often is a valid policy, is not loaded when
// it is complete at the next look.
func TestWatchLoadsNothingThatIsCutOff(t *testing.T) {
	whole := limited("2") + "- {name: b, methods: [\"/turret.echo.v1.EchoService/*\"], server: {timeout: 2s}}\n"
	for cut := range len(whole) {
		name := file(t)
		watch(t, name, func(w *watched) {
			put(t, name, whole[:cut])
			time.Sleep(interval + interval/2)
			synctest.Wait()
			w.has("1", 0)
			put(t, name, whole)
			w.after(2)
			w.has("2", 1)
		})
	}
}

// Load reads one file to its end, though others take its place meanwhile.
func TestLoadWhileTheFileIsReplaced(t *testing.T) {
	name := file(t)
	versions := make([][]byte, 2)
	for i := range versions {
		versions[i] = []byte(limited(fmt.Sprint(i+1)) + strings.Repeat(fmt.Sprintf("# %d\n", i), 5_000))
	}
	put(t, name, string(versions[0]))
	stop, replacing := make(chan struct{}), sync.WaitGroup{}
	replacing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := errors.Join(os.WriteFile(name+".new", versions[i%2], 0o600), os.Rename(name+".new", name)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 20 {
		document, err := policyfile.Load(name)
		if err != nil {
			t.Errorf("the error is %v", err)
			break
		}
		if !bytes.Equal(document.Source, versions[0]) && !bytes.Equal(document.Source, versions[1]) {
			t.Error("what was read is neither file")
			break
		}
	}
	close(stop)
	replacing.Wait()
}
