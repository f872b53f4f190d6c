package conventions

import (
	"fmt"
	"go/ast"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

// longest is how many lines a function may have.
const longest = 60

// TestFunctionsAreShort measures every function. In tests, and in turrettest, the
// lines of tables do not count, and a function literal, a subtest for example, counts
// as a function of its own.
func TestFunctionsAreShort(t *testing.T) {
	for _, f := range all(t, func(f *goFile) bool { return !f.generated }) {
		for _, wrong := range longFunctions(f) {
			t.Error(wrong)
		}
	}
}

func longFunctions(f *goFile) (wrong []string) {
	for _, d := range f.tree.Decls {
		d, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		for at, n := range functionLines(f, d) {
			if n > longest {
				wrong = append(wrong, fmt.Sprintf("%s: %s has %d lines, at most %d are allowed: split it", f.line(at), d.Name.Name, n, longest))
			}
		}
	}
	return wrong
}

// functionLines returns the lines that count of d, and in tests also of the function
// literals in it.
func functionLines(f *goFile, d *ast.FuncDecl) map[ast.Node]int {
	lines := map[ast.Node]int{d: f.lines(d)}
	if !f.test && f.dir != "turrettest" {
		return lines
	}
	var count func(function, body ast.Node)
	count = func(function, body ast.Node) {
		ast.Inspect(body, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				lines[function] -= f.lines(n) - 1
				ast.Inspect(n, func(n ast.Node) bool {
					literal, ok := n.(*ast.FuncLit)
					if ok {
						lines[literal] = f.lines(literal)
						count(literal, literal.Body)
					}
					return !ok
				})
				return false
			case *ast.FuncLit:
				lines[function] -= f.lines(n) - 1
				lines[n] = f.lines(n)
				count(n, n.Body)
				return false
			}
			return true
		})
	}
	if d.Body != nil {
		count(d, d.Body)
	}
	return lines
}

// manyFiles are the types whose methods may lie in more than two files, and in how
// many. The names of these files must begin with the type's.
var manyFiles = map[string]int{"interceptors.streamClient": 4}

// TestTypesLieTogether counts the files with methods of each type.
func TestTypesLieTogether(t *testing.T) {
	for _, wrong := range scattered(all(t, func(f *goFile) bool { return !f.generated && !f.test })) {
		t.Error(wrong)
	}
}

func scattered(files []*goFile) (wrong []string) {
	places := map[string][]string{}
	for _, f := range files {
		for _, d := range f.tree.Decls {
			d, ok := d.(*ast.FuncDecl)
			if !ok || d.Recv == nil {
				continue
			}
			of := f.dir + "." + receiver(d)
			if !slices.Contains(places[of], path.Base(f.name)) {
				places[of] = append(places[of], path.Base(f.name))
			}
		}
	}
	for _, of := range slices.Sorted(maps.Keys(places)) {
		in, most := places[of], max(2, manyFiles[of])
		if len(in) > most {
			wrong = append(wrong, fmt.Sprintf("%s has methods in %d files, at most %d are allowed: %s", of, len(in), most, strings.Join(in, ", ")))
		}
		_, name, _ := strings.Cut(of, ".")
		for _, file := range in {
			if len(in) > 2 && manyFiles[of] > 0 && !strings.HasPrefix(file, strings.ToLower(name)) {
				wrong = append(wrong, fmt.Sprintf("%s has methods in %s: the files of a type with more than two begin with its name", of, file))
			}
		}
	}
	return wrong
}

// TestExportedNamesAreDocumented looks for the doc comment of every exported name
// that programs can import from the root module.
func TestExportedNamesAreDocumented(t *testing.T) {
	n := 0
	for _, f := range all(t, func(f *goFile) bool { return importable(f) && !f.test && !f.generated }) {
		wrong, found := undocumented(f)
		n += found
		for _, name := range wrong {
			t.Errorf("%s has no doc comment", name)
		}
	}
	if n < 500 {
		t.Errorf("found only %d exported names", n)
	}
}

func importable(f *goFile) bool {
	return !f.nested && f.tree.Name.Name != "main" && !slices.Contains(strings.Split(f.dir, "/"), "internal")
}

// undocumented returns the exported names of f without a doc comment, and how many
// exported names there are. The fields of a Config count too.
func undocumented(f *goFile) (wrong []string, n int) {
	check := func(at ast.Node, name string, docs ...*ast.CommentGroup) {
		n++
		if !slices.ContainsFunc(docs, func(doc *ast.CommentGroup) bool { return doc.Text() != "" }) {
			wrong = append(wrong, f.line(at)+": "+name)
		}
	}
	for _, d := range f.tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if of := receiver(d); d.Name.IsExported() && (of == "" || ast.IsExported(of)) {
				check(d, d.Name.Name, d.Doc)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				undocumentedSpec(d, s, check)
			}
		}
	}
	return wrong, n
}

func undocumentedSpec(d *ast.GenDecl, s ast.Spec, check func(ast.Node, string, ...*ast.CommentGroup)) {
	switch s := s.(type) {
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() {
				check(name, name.Name, d.Doc, s.Doc, s.Comment)
			}
		}
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return
		}
		check(s, s.Name.Name, d.Doc, s.Doc, s.Comment)
		fields, ok := s.Type.(*ast.StructType)
		if !ok || !strings.HasSuffix(s.Name.Name, "Config") {
			return
		}
		for _, field := range fields.Fields.List {
			for _, name := range field.Names {
				if name.IsExported() {
					check(name, s.Name.Name+"."+name.Name, field.Doc, field.Comment)
				}
			}
		}
	}
}

// A fault of each kind is found.
func TestShapeFindsFaults(t *testing.T) {
	long := "package p\n\nfunc f() {" + strings.Repeat("\n", longest-1) + "}\n"
	if got := longFunctions(must(t, "p/f.go", long)); len(got) != 0 {
		t.Errorf("%d lines: %q", longest, got)
	}
	long = strings.Replace(long, "\n}", "\n\n}", 1)
	if got := longFunctions(must(t, "p/f.go", long)); len(got) != 1 || !strings.Contains(got[0], "p/f.go:3: f has 61 lines") {
		t.Errorf("%d lines: %q", longest+1, got)
	}
	table := strings.Replace(long, "{\n\n", "{\n\t_ = []int{\n\t\t1,\n\t}", 1)
	subtest := strings.Replace(long, "{\n\n", "{\n\t_ = func() {\n\n\t}", 1)
	for name, want := range map[string]int{"p/f.go": 1, "p/f_test.go": 0, "turrettest/f.go": 0} {
		for _, text := range []string{table, subtest} {
			if got := longFunctions(must(t, name, text)); len(got) != want {
				t.Errorf("%s: %q, want %d faults", name, got, want)
			}
		}
	}
	subtest = strings.Replace(long, "func f() {", "func f() {\n\t_ = func() {", 1) + "\n}\n"
	if got := longFunctions(must(t, "p/f_test.go", subtest)); len(got) != 1 || !strings.Contains(got[0], "p/f_test.go:4") {
		t.Errorf("a long subtest: %q", got)
	}

	method := func(file, of string) *goFile { return must(t, file, "package p\n\nfunc (*"+of+"[E]) m() {}\n") }
	for want, files := range map[string][]*goFile{
		"": {method("p/a.go", "T"), method("p/b.go", "T"), method("q/c.go", "T")},
		"p.T has methods in 3 files, at most 2 are allowed: a.go, b.go, c.go": {method("p/a.go", "T"), method("p/b.go", "T"), method("p/c.go", "T")},
		"interceptors.streamClient has methods in b.go": {
			method("interceptors/streamclient.go", "streamClient"), method("interceptors/streamclient_a.go", "streamClient"), method("interceptors/b.go", "streamClient"),
		},
	} {
		if got := strings.Join(scattered(files), "\n"); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("found %q, want %q", got, want)
		}
	}

	const names = "package p\n\nconst A, b = 1, 2\n\n// Config is.\ntype Config struct {\n\tA int\n\tB int // B is.\n\tc int\n}\n\nfunc F() {}\n\n// M is.\nfunc (Config) M() {}\n\nfunc (t) M() {}\n"
	want := []string{"p/p.go:3: A", "p/p.go:7: Config.A", "p/p.go:12: F"}
	if got, n := undocumented(must(t, "p/p.go", names)); !slices.Equal(got, want) || n != 6 {
		t.Errorf("%q of %d have no doc comment, want %q of 6", got, n, want)
	}
}
