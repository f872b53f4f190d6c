package docs

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// standard are the packages of the standard library that the documents name.
var standard = []string{"iter", "net", "math/rand/v2", "testing/synctest"}

// goNames returns the exported names of the module's packages, and of those of the
// standard library that the documents name: pkg.Name, pkg.Type.Method and
// pkg.Type.Field.
func goNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, pkg := range standard {
		collect(t, filepath.Join(build.Default.GOROOT, "src", pkg), names)
	}
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		_, err = os.Stat(filepath.Join(path, "go.mod"))
		nested := err == nil && path != top
		if hidden := strings.HasPrefix(d.Name(), ".") && path != top; hidden || nested || d.Name() == "internal" || d.Name() == "testdata" {
			return fs.SkipDir
		}
		collect(t, path, names)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !names["turret.Service.Call"] || !names["retry.Config.Budget"] || names["turret.wrapped"] {
		t.Fatal("the names are not those of the module")
	}
	return names
}

// collect adds the exported names of the package in dir, if there is one.
func collect(t *testing.T, dir string, names map[string]bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.FileExports(f)
		for _, decl := range f.Decls {
			for _, name := range declared(decl) {
				names[f.Name.Name+"."+name] = true
			}
		}
	}
}

// declared returns the names of a declaration, methods and fields with their type.
func declared(decl ast.Decl) (names []string) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			return []string{d.Name.Name}
		}
		return []string{receiver(d.Recv.List[0].Type) + "." + d.Name.Name}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range s.Names {
					names = append(names, name.Name)
				}
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
				for _, member := range members(s.Type) {
					names = append(names, s.Name.Name+"."+member)
				}
			}
		}
	}
	return names
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

// members returns the names of a struct's fields or an interface's methods.
func members(e ast.Expr) (names []string) {
	var list *ast.FieldList
	switch e := e.(type) {
	case *ast.StructType:
		list = e.Fields
	case *ast.InterfaceType:
		list = e.Methods
	default:
		return nil
	}
	for _, field := range list.List {
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}
