// Command mutants shows that the tests notice when a promise is broken. Each
// .mutant file beside it breaks one, and names the promise and the tests that
// must fail:
//
//	Promise: a message that the caller has received commits its stream
//	Tests: ./internal/oracle
//
//	In: interceptors streamClient.received
//	-	if err == nil {
//	+	if false {
//	 		c.commit()
//	 	}
//
// Tests are the arguments of one "go test", without quotes; a line "Module:
// test/bench" runs it in that nested module. In names the directory of a package
// and a declaration in it, as go doc names it: Func, Type.Method, Type, Variable.
// The lines below are code: "-" is replaced by "+", and a line that begins with a
// space stays. The declaration must have the old code exactly once. Code is compared
// token by token, wherever in the package the declaration is, so that moves,
// comments and formatting change nothing. A mutant may have several In.
//
// The command first runs all tests without any mutant, which must pass, and then
// the tests of each mutant, with the files that it changes laid over the tree (go
// help build, -overlay): the tree itself is not touched. A mutant fails the command
// if its tests pass, if it does not compile, or if its declaration or its old code
// is not there any more.
//
//	go run ./test/mutants              # all of them
//	go run ./test/mutants stream       # those with "stream" in their name
//	go run ./test/mutants -build       # compile each, and run no test
//	go run ./test/mutants -mend        # name the new place of code that has moved
//
// TestAllApply, which is quick, checks that each mutant still applies. To add one,
// write its file and a row in doc/reliability.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"time"
)

func main() {
	build := flag.Bool("build", false, "compile each mutant, and run no test")
	mend := flag.Bool("mend", false, "rewrite the In lines of mutants whose code has moved to one other declaration")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, flag.Args(), *build, *mend); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string, build, mend bool) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	mutants, err := load(filepath.Join(root, "test", "mutants"), names)
	if err != nil {
		return err
	}
	switch {
	case mend:
		return mendAll(mutants, root)
	case build:
		return report(mutants, "compile", func(m *mutant) (string, error) { return "", m.build(ctx, root) })
	}
	if err := allApply(mutants, root); err != nil {
		return err
	}
	if err := passUnchanged(ctx, root, mutants); err != nil {
		return err
	}
	return report(mutants, "were caught", func(m *mutant) (string, error) { return m.caught(ctx, root) })
}

// report tries all mutants, as many at a time as there are processors, and prints
// the result of each. success is what all mutants must do.
func report(mutants []*mutant, success string, try func(*mutant) (string, error)) error {
	failed := 0
	for m := range atOnce(mutants, runtime.NumCPU(), func(m *mutant) {
		start := time.Now()
		m.how, m.err = try(m)
		m.took = time.Since(start)
	}) {
		verdict, how := "ok", m.how
		if m.err != nil {
			verdict, how = "FAILED", m.err.Error()
			failed++
		}
		say("%-6s %5.1fs  %s\n               %s\n               %s\n", verdict, m.took.Seconds(), m.name, m.promise, how)
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d mutants failed", failed, len(mutants))
	}
	say("all %d mutants %s\n", len(mutants), success)
	return nil
}

// allApply returns an error unless all mutants apply.
func allApply(mutants []*mutant, root string) error {
	var all error
	for _, m := range mutants {
		if _, err := m.apply(root); err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", m.name, err))
		}
	}
	return all
}

// mendAll rewrites the In lines of changes whose code is in one other declaration.
func mendAll(mutants []*mutant, root string) error {
	var left error
	for _, m := range mutants {
		for _, c := range m.changes {
			_, err := c.find(root)
			if places := c.places(root); errors.Is(err, errGone) && len(places) == 1 {
				err = rewrite(m.file, "In: "+c.String()+"\n", "In: "+places[0].String()+"\n")
				say("%s: %s is %s\n", m.name, c, places[0])
			}
			if err != nil {
				left = errors.Join(left, fmt.Errorf("%s: %w", m.name, err))
			}
		}
	}
	return left
}

func rewrite(file, old, text string) error {
	was, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strings.Replace(string(was), old, text, 1)), 0o600)
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
