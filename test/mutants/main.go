// Command mutants shows that the tests notice when a promise is broken. Each
// .patch file beside it breaks one, and names the promise and the tests that
// have to fail:
//
//	Promise: a message that the caller has received commits its stream
//	Tests: ./internal/oracle
//
//	--- a/interceptors/streammethods.go
//	+++ b/interceptors/streammethods.go
//	...
//
// Tests are the arguments of one "go test", without quotes; a line "Module:
// test/bench" runs it in that nested module. The command first runs all of these
// tests as they are, which must pass, and then once for each patch, with the
// files that it changes laid over the tree (go help build, -overlay): the tree
// itself is never touched. A patch fails the command if its tests pass, if it
// does not compile, or if it does not apply any more because the code has moved
// on.
//
//	go run ./test/mutants                  # all of them
//	go run ./test/mutants stream           # those with "stream" in their name
//
// To add one: break the code, git diff > test/mutants/NAME.patch, put the two lines in
// front, restore the code, and add a row to doc/reliability.md.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	mutants, err := load(filepath.Join(root, "test", "mutants"), names)
	if err != nil {
		return err
	}
	if err := passUnchanged(ctx, root, mutants); err != nil {
		return err
	}
	survived := 0
	for m := range atOnce(mutants, runtime.NumCPU(), func(m *mutant) { m.try(ctx, root) }) {
		verdict, how := "caught", m.how
		if m.err != nil {
			verdict, how = "FAILED", m.err.Error()
			survived++
		}
		say("%-6s %5.1fs  %s\n               %s\n               %s\n", verdict, m.took.Seconds(), m.name, m.promise, how)
	}
	if survived > 0 {
		return fmt.Errorf("%d of %d mutants were not caught", survived, len(mutants))
	}
	say("all %d mutants were caught\n", len(mutants))
	return nil
}

// atOnce calls f for each of all, n at a time, and returns them in their order,
// each when f has returned.
func atOnce[T any](all []T, n int, f func(T)) iter.Seq[T] {
	done := make([]chan struct{}, len(all))
	for i := range done {
		done[i] = make(chan struct{})
	}
	var next atomic.Int64
	for range n {
		go func() {
			for i := next.Add(1) - 1; int(i) < len(all); i = next.Add(1) - 1 {
				f(all[i])
				close(done[i])
			}
		}()
	}
	return func(yield func(T) bool) {
		for i, one := range all {
			<-done[i]
			if !yield(one) {
				return
			}
		}
	}
}

func say(format string, args ...any) { _, _ = fmt.Fprintf(os.Stdout, format, args...) }

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/turret-go/turret").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// A mutant is a patch that breaks a promise.
type mutant struct {
	name    string // of the file, without .patch
	file    string
	promise string
	module  string   // the directory of a nested module; empty: the root
	tests   []string // arguments of go test
	changes []string // the files that it changes, from the root

	// What came of it.
	how  string // which tests have failed
	err  error  // why it was not caught
	took time.Duration
}

// try finds out what comes of m.
func (m *mutant) try(ctx context.Context, root string) {
	start := time.Now()
	m.how, m.err = m.caught(ctx, root)
	m.took = time.Since(start)
}

// load returns the mutants in dir whose names have one of the given parts; all
// if none is given.
func load(dir string, parts []string) (mutants []*mutant, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".patch")
		wanted := func(part string) bool { return strings.Contains(name, part) }
		if len(parts) > 0 && !slices.ContainsFunc(parts, wanted) {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		m, err := parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		m.name, m.file = name, file
		mutants = append(mutants, m)
	}
	if len(mutants) == 0 {
		return nil, fmt.Errorf("no mutant in %s has one of %q in its name", dir, parts)
	}
	return mutants, nil
}

// parse reads a patch and the lines in front of it.
func parse(text string) (*mutant, error) {
	m := new(mutant)
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if value, ok := strings.CutPrefix(line, "+++ b/"); ok {
			m.changes = append(m.changes, value)
		}
		if len(m.changes) > 0 {
			continue
		}
		key, value, _ := strings.Cut(line, ": ")
		switch key {
		case "Promise":
			m.promise = value
		case "Module":
			m.module = value
		case "Tests":
			m.tests = strings.Fields(value)
		}
	}
	switch {
	case m.promise == "":
		return nil, errors.New(`there is no line "Promise: ..."`)
	case len(m.tests) == 0:
		return nil, errors.New(`there is no line "Tests: ..."`)
	case len(m.changes) == 0:
		return nil, errors.New("it changes nothing")
	}
	return m, nil
}

// passUnchanged returns an error unless the tests of all mutants pass without
// them.
func passUnchanged(ctx context.Context, root string, mutants []*mutant) error {
	var failed error
	for m := range atOnce(together(mutants), runtime.NumCPU(), func(m *mutant) {
		if out, err := m.goTest(ctx, root, "", m.tests...); err != nil {
			m.err = fmt.Errorf("without a mutant, go test %s: %w\n%s", strings.Join(m.tests, " "), err, out)
		}
	}) {
		failed = errors.Join(failed, m.err)
	}
	return failed
}

// together returns the tests of all mutants in as few as there are different
// packages and flags: a test binary is linked for each.
func together(mutants []*mutant) (all []*mutant) {
	known := map[string]*mutant{}
	for _, m := range mutants {
		var run string
		rest := []string{}
		for i := 0; i < len(m.tests); i++ {
			switch m.tests[i] {
			case "-run":
				i++
				run = m.tests[i]
			case "-timeout": // is for those that hang
				i++
			default:
				rest = append(rest, m.tests[i])
			}
		}
		run = cmp.Or(run, ".")
		key := m.module + " " + strings.Join(rest, " ")
		if of, ok := known[key]; ok {
			of.tests[1] += "|" + run
			continue
		}
		known[key] = &mutant{module: m.module, tests: append([]string{"-run", run}, rest...)}
		all = append(all, known[key])
	}
	return all
}

// caught says which tests fail because of m, or why that is not the case.
func (m *mutant) caught(ctx context.Context, root string) (by string, err error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	overlay, err := m.overlay(ctx, root, dir)
	if err != nil {
		return "", err
	}
	out, err := m.goTest(ctx, root, overlay, append([]string{"-count=1", "-timeout=2m"}, m.tests...)...)
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err == nil:
		return "", fmt.Errorf("go test %s passes", strings.Join(m.tests, " "))
	case !failure.Match(out):
		return "", fmt.Errorf("no test fails, but something else: %w\n%s", err, out)
	}
	return failures(out), nil
}

// overlay makes the changed files in dir, and returns the file that tells the go
// command of them.
func (m *mutant) overlay(ctx context.Context, root, dir string) (string, error) {
	replace := map[string]string{}
	for _, file := range m.changes {
		from, to := filepath.Join(root, file), filepath.Join(dir, file)
		replace[from] = to
		if err := copyFile(from, to); err != nil {
			return "", err
		}
	}
	apply := exec.CommandContext(ctx, "git", "apply", "--whitespace=nowarn", m.file)
	apply.Dir = dir
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir)) // it is in no repository
	if out, err := apply.CombinedOutput(); err != nil {
		return "", fmt.Errorf("it does not apply any more: %w\n%s", err, out)
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, text, 0o600)
}

// copyFile copies a file, if there is one: a patch may add it.
func copyFile(from, to string) error {
	text, err := os.ReadFile(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// goTest runs go test. The overlay is in the environment, so that tests which
// run the go command themselves are of the same code. What the mutants change is
// compiled and linked once for each, so nothing is that is not needed: neither vet
// nor debugging information.
func (m *mutant) goTest(ctx context.Context, root, overlay string, arguments ...string) (out []byte, err error) {
	c := exec.CommandContext(ctx, "go", append([]string{"test", "-vet=off", "-ldflags=-w"}, arguments...)...)
	c.Dir = filepath.Join(root, m.module)
	c.Env = append(os.Environ(), "GOWORK=off")
	if overlay != "" {
		c.Env = append(c.Env, strings.TrimSpace("GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	return c.CombinedOutput()
}

var failure = regexp.MustCompile(`(?m)^--- FAIL: (\S+)|^(panic: .*|fatal error: .*)$`)

// failures says in one line what failed in the output of go test.
func failures(out []byte) string {
	var found []string
	for _, match := range failure.FindAllSubmatch(out, -1) {
		found = append(found, string(bytes.Join(match[1:], nil)))
	}
	slices.Sort(found)
	found = slices.Compact(found)
	return "by " + strings.Join(found[:min(len(found), 4)], ", ")
}
