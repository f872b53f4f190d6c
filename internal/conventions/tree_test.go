package conventions

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	top    = "../.." // the directory of the repository
	module = "github.com/turret-go/turret"
)

// A goFile is one parsed file.
type goFile struct {
	name      string // from the top, with slashes
	dir       string // its directory; "." at the top
	text      string
	set       *token.FileSet
	tree      *ast.File
	test      bool // *_test.go
	generated bool
	nested    bool // in a module of its own
}

// line returns the place of a node for messages.
func (f *goFile) line(n ast.Node) string {
	return f.name + ":" + strconv.Itoa(f.set.Position(n.Pos()).Line)
}

// lines returns how many lines a node takes.
func (f *goFile) lines(n ast.Node) int {
	return f.set.Position(n.End()).Line - f.set.Position(n.Pos()).Line + 1
}

// files returns all Go files of the repository, nested modules included, in order.
// They are read once for all tests.
var files = sync.OnceValues(func() ([]*goFile, error) {
	var all []*goFile
	var nested []string
	err := filepath.WalkDir(top, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		slash, err := filepath.Rel(top, name)
		if err != nil {
			return err
		}
		slash = filepath.ToSlash(slash)
		switch {
		case d.IsDir() && slash != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() && slash != ".":
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil {
				nested = append(nested, slash+"/")
			}
			return nil
		case path.Ext(slash) != ".go":
			return nil
		}
		f, err := parse(name, slash)
		if err != nil {
			return err
		}
		f.nested = slices.ContainsFunc(nested, func(dir string) bool { return strings.HasPrefix(slash, dir) })
		all = append(all, f)
		return nil
	})
	return all, err
})

func parse(file, name string) (*goFile, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parseText(name, string(text))
}

func parseText(name, text string) (*goFile, error) {
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &goFile{
		name: name, dir: path.Dir(name), text: text, set: set, tree: tree,
		test: strings.HasSuffix(name, "_test.go"), generated: ast.IsGenerated(tree),
	}, nil
}

// all returns the files that keep selects, and fails if there are too few.
func all(t *testing.T, keep func(*goFile) bool) []*goFile {
	t.Helper()
	found, err := files()
	if err != nil {
		t.Fatal(err)
	}
	var kept []*goFile
	for _, f := range found {
		if keep(f) {
			kept = append(kept, f)
		}
	}
	if len(kept) < 10 {
		t.Fatalf("found only %d files", len(kept))
	}
	return kept
}

// must parses the text of a file for a test of a rule.
func must(t *testing.T, name, text string) *goFile {
	t.Helper()
	f, err := parseText(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// receiver returns the name of a method's type, and "" for a function.
func receiver(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return ""
	}
	e := d.Recv.List[0].Type
	for {
		switch x := e.(type) {
		case *ast.StarExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.IndexListExpr:
			e = x.X
		case *ast.Ident:
			return x.Name
		default:
			return ""
		}
	}
}
