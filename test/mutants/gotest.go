package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

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

// caught returns which tests fail because of m, or an error if none does.
func (m *mutant) caught(ctx context.Context, root string) (by string, err error) {
	err = m.withOverlay(root, func(overlay string) error {
		out, err := m.goTest(ctx, root, overlay, append([]string{"-count=1", "-timeout=2m"}, m.tests...)...)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			return fmt.Errorf("go test %s passes", strings.Join(m.tests, " "))
		case !failure.Match(out):
			return fmt.Errorf("no test fails, but something else: %w\n%s", err, out)
		}
		by = failures(out)
		return nil
	})
	return by, err
}

// build compiles the packages that m changes.
func (m *mutant) build(ctx context.Context, root string) error {
	return m.withOverlay(root, func(overlay string) error {
		arguments := []string{"build", "-overlay", overlay}
		for _, c := range m.changes {
			arguments = append(arguments, "./"+c.dir)
		}
		c := exec.CommandContext(ctx, "go", arguments...)
		c.Dir = filepath.Join(root, m.module)
		c.Env = append(os.Environ(), "GOWORK=off")
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("it does not compile: %w\n%s", err, out)
		}
		return nil
	})
}

// withOverlay calls f with the file by which the go command finds what m changes.
func (m *mutant) withOverlay(root string, f func(overlay string) error) error {
	changed, err := m.apply(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	replace := map[string]string{}
	for file, text := range changed {
		replace[file] = filepath.Join(dir, strconv.Itoa(len(replace))+".go")
		if err := os.WriteFile(replace[file], text, 0o600); err != nil {
			return err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	overlay := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return err
	}
	return f(overlay)
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

// failures returns in one line the failures in the output of go test.
func failures(out []byte) string {
	var found []string
	for _, match := range failure.FindAllSubmatch(out, -1) {
		found = append(found, string(bytes.Join(match[1:], nil)))
	}
	slices.Sort(found)
	found = slices.Compact(found)
	return "by " + strings.Join(found[:min(len(found), 4)], ", ")
}
