// Command report makes tables and plots of what the benchmarks of bench have
// measured. It writes them into a document, between two comments, or to standard
// output:
//
//	go run ./report -results results.txt
//	go run ./report -results results.txt -doc ../../doc/performance.md
//	go run ./report -results results.txt -check
//
// Plots go into the directory beside the document that is named as it is,
// without its ending.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	results := flag.String("results", "results.txt", "`file` that the benchmarks have written")
	doc := flag.String("doc", "", "`document` to write into; empty: standard output")
	check := flag.Bool("check", false, "only see that nothing is missing that the report needs")
	flag.Parse()
	if err := report(*results, *doc, *check); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(results, doc string, check bool) error {
	f, err := os.Open(results)
	if err != nil {
		return err
	}
	r, err := read(f, results)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if doc == "" && !check {
		write(os.Stdout, r, "")
		return nil
	}
	if missing := r.missing(); len(missing) > 0 {
		return fmt.Errorf("%s has not all that the report needs: %s", results, strings.Join(missing, "; "))
	}
	if check {
		return nil
	}
	plots := strings.TrimSuffix(doc, filepath.Ext(doc))
	if err := draw(r, plots); err != nil {
		return err
	}
	text := new(bytes.Buffer)
	write(text, r, filepath.Base(plots))
	return replace(doc, text.String())
}

// write writes everything that r has: what was measured, on which machine, the
// targets and the tables. plots is where the plots are, seen from the document;
// if it is empty there are none.
func write(w io.Writer, r *results, plots string) {
	machine(w, r)
	judge(w, r)
	for _, s := range sections {
		s.write(w, r, plots)
	}
}

// The comments between which a document has what is written here.
const (
	begin = "<!-- begin: written by make bench -->\n"
	end   = "<!-- end: written by make bench -->\n"
)

// replace puts text between the comments in doc.
func replace(doc, text string) error {
	old, err := os.ReadFile(doc)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no lines %q and %q", doc, begin, end)
	}
	return os.WriteFile(doc, []byte(before+begin+"\n"+strings.TrimSpace(text)+"\n\n"+end+after), 0o644)
}
