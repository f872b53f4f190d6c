package main

import (
	"cmp"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// extension ends the name of a file that describes a mutant.
const extension = ".mutant"

// A mutant is a change of the code that breaks a promise.
type mutant struct {
	name    string // of the file, without its extension
	file    string
	promise string
	module  string   // the directory of a nested module; empty: the root
	tests   []string // arguments of go test
	changes []change

	// The result.
	how  string // which tests have failed
	err  error  // why it was not caught
	took time.Duration
}

// A change replaces code in one declaration.
type change struct {
	dir, decl string // the package's directory, from the root, and the declaration as go doc names it
	old, new  string
}

func (c change) String() string { return c.dir + " " + c.decl }

// load returns the mutants in dir whose names contain one of parts; all if there
// are none.
func load(dir string, parts []string) (mutants []*mutant, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*"+extension))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), extension)
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

// parse reads the description of a mutant.
func parse(text string) (*mutant, error) {
	m := new(mutant)
	n := 0
	for line := range strings.Lines(text) {
		n++
		if err := m.parseLine(strings.TrimSuffix(line, "\n")); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	switch {
	case m.promise == "":
		return nil, errors.New(`there is no line "Promise: ..."`)
	case len(m.tests) == 0:
		return nil, errors.New(`there is no line "Tests: ..."`)
	case len(m.changes) == 0:
		return nil, errors.New(`there is no line "In: ..."`)
	}
	for _, c := range m.changes {
		if strings.TrimSpace(c.old) == "" || c.old == c.new {
			return nil, fmt.Errorf("in %s nothing is replaced", c)
		}
	}
	return m, nil
}

func (m *mutant) parseLine(line string) error {
	if strings.TrimSpace(line) == "" {
		return nil
	}
	if strings.ContainsAny(line[:1], "-+ ") {
		if len(m.changes) == 0 {
			return errors.New("code before the first In")
		}
		m.changes[len(m.changes)-1].add(line[0], line[1:]+"\n")
		return nil
	}
	key, value, _ := strings.Cut(line, ": ")
	switch key {
	case "Promise":
		m.promise = value
	case "Module":
		m.module = value
	case "Tests":
		m.tests = strings.Fields(value)
	case "In":
		dir, decl, ok := strings.Cut(value, " ")
		if !ok {
			return fmt.Errorf("%q is not a directory and the name of a declaration", value)
		}
		m.changes = append(m.changes, change{dir: dir, decl: decl})
	default:
		return fmt.Errorf("%q is none of Promise, Module, Tests and In", key)
	}
	return nil
}

// add appends a line: what begins with - is replaced, what begins with + takes its
// place, what begins with a space stays.
func (c *change) add(sign byte, line string) {
	if sign != '+' {
		c.old += line
	}
	if sign != '-' {
		c.new += line
	}
}

// apply returns the files that m changes, each with its new text.
func (m *mutant) apply(root string) (map[string][]byte, error) {
	var edits []edit
	for _, c := range m.changes {
		e, err := c.find(root)
		if err != nil {
			return nil, err
		}
		edits = append(edits, e)
	}
	// From the end of a file to its beginning, so that places stay valid.
	slices.SortFunc(edits, func(a, b edit) int { return b.from - a.from })
	changed := map[string][]byte{}
	for _, e := range edits {
		text, ok := changed[e.file]
		if !ok {
			text = e.text
		}
		changed[e.file] = slices.Concat(text[:e.from], []byte(e.new), text[e.to:])
	}
	for file, text := range changed {
		if _, err := parser.ParseFile(token.NewFileSet(), file, text, parser.SkipObjectResolution); err != nil {
			return nil, fmt.Errorf("with this mutant: %w", err)
		}
	}
	return changed, nil
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
			case "-timeout": // bounds tests that hang
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
