package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A source is the code of one declaration.
type source struct {
	name     string // as go doc has it: Func, Type, Type.Method
	file     string
	text     []byte // of the whole file
	from, to int    // the declaration's place in it
}

// errGone is of a change whose declaration or code is no longer there.
var errGone = errors.New("it does not apply any more")

// sources returns the declarations of the package in dir, without its tests.
func sources(dir string) (all []source, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		files := token.NewFileSet()
		f, err := parser.ParseFile(files, file, text, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		add := func(name string, n ast.Node) {
			all = append(all, source{name, file, text, files.Position(n.Pos()).Offset, files.Position(n.End()).Offset})
		}
		for _, d := range f.Decls {
			declare(d, add)
		}
	}
	return all, nil
}

// declare calls add for each name that d declares.
func declare(d ast.Decl, add func(string, ast.Node)) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			name = receiver(d.Recv.List[0].Type) + "." + name
		}
		add(name, d)
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				add(s.Name.Name, s)
			case *ast.ValueSpec:
				for _, name := range s.Names {
					add(name.Name, s)
				}
			}
		}
	}
}

// receiver returns the name of a receiver's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	default:
		return ""
	}
}

// An edit replaces text[from:to] of a file.
type edit struct {
	file     string
	text     []byte
	from, to int
	new      string
}

// find returns the edit that c is, in the tree at root. Code is compared by its
// tokens, so that neither comments nor line breaks matter.
func (c change) find(root string) (edit, error) {
	all, err := sources(filepath.Join(root, c.dir))
	if err != nil {
		return edit{}, err
	}
	named := slices.DeleteFunc(slices.Clone(all), func(s source) bool { return s.name != c.decl })
	switch len(named) {
	case 0:
		return edit{}, fmt.Errorf("%w: package %s has no %s%s", errGone, c.dir, c.decl, c.hint(root))
	case 1:
	default:
		return edit{}, fmt.Errorf("%w: package %s has %s %d times", errGone, c.dir, c.decl, len(named))
	}
	found := c.in(named[0])
	switch len(found) {
	case 0:
		return edit{}, fmt.Errorf("%w: %s does not have this code%s:\n%s", errGone, c, c.hint(root), c.old)
	case 1:
		return found[0], nil
	default:
		return edit{}, fmt.Errorf("%w: %s has this code %d times:\n%s", errGone, c, len(found), c.old)
	}
}

// in returns the edits that c could be in s.
func (c change) in(s source) (edits []edit) {
	code, old := tokens(s.text[s.from:s.to]), tokens([]byte(c.old))
	if len(old) == 0 {
		return nil
	}
	for i := 0; i+len(old) <= len(code); i++ {
		if slices.EqualFunc(old, code[i:i+len(old)], func(a, b lexeme) bool { return a.text == b.text }) {
			last := code[i+len(old)-1]
			edits = append(edits, edit{s.file, s.text, s.from + code[i].from, s.from + last.from + len(last.text), strings.TrimSpace(c.new)})
		}
	}
	return edits
}

// hint names the only place of the tree that has c's code, if there is one.
func (c change) hint(root string) string {
	if places := c.places(root); len(places) == 1 {
		return fmt.Sprintf("; it is in %s now (-mend writes that)", places[0])
	}
	return ""
}

// places returns the declarations of the tree at root that have c's code once.
func (c change) places(root string) (all []change) {
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if strings.HasPrefix(d.Name(), ".") && path != root {
			return fs.SkipDir
		}
		found, err := sources(path)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		for _, s := range found {
			if len(c.in(s)) == 1 {
				all = append(all, change{dir: filepath.ToSlash(dir), decl: s.name})
			}
		}
		return nil
	})
	return all
}

// A lexeme is a token of Go.
type lexeme struct {
	text string
	from int
}

// tokens returns the tokens of code, without comments and without the semicolons
// that end lines.
func tokens(code []byte) (all []lexeme) {
	var s scanner.Scanner
	file := token.NewFileSet().AddFile("", -1, len(code))
	s.Init(file, code, func(token.Position, string) {}, 0)
	for {
		pos, tok, text := s.Scan()
		switch {
		case tok == token.EOF:
			return all
		case tok == token.SEMICOLON && text == "\n":
			continue
		case tok.IsOperator() && tok != token.SEMICOLON:
			text = tok.String()
		}
		all = append(all, lexeme{text, file.Offset(pos)})
	}
}
