// Command overload plays what overload does to servers, behind AdaptiveLimit and
// behind other limits, with retries, levels and throttles, in virtual time. It
// prints the tables and draws the plots of doc/overload.md:
//
//	GOWORK=off go run ./overload -doc ../../doc        # everything: a quarter of an hour or so
//	GOWORK=off go run ./overload -only e5-2x,slow10    # two scenarios
//	GOWORK=off go run ./overload -policies AdaptiveLimit -seeds 21,22
//
// Each run of an experiment with a policy and a seed is a process of its own, with
// one processor. Results are kept in a file and not measured again.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/turret-go/turret/test/experiments/cells"
	"github.com/turret-go/turret/test/experiments/limiters"
)

// Seeds: the constants of the limit were chosen on known ones. Nothing was chosen
// by fresh ones. Others' policies are measured with the first known one.
const (
	knownSeeds = "1,2,3,4"
	freshSeeds = "701,702,703"
	peerSeeds  = 1
)

func main() {
	limiters.Quiet()
	if cells.Forked(measureCell) {
		return
	}
	only := flag.String("only", "", "the experiments to run; all if empty")
	policies := flag.String("policies", "", "the policies to run; those of each experiment if empty")
	seeds := flag.String("seeds", knownSeeds, "the seeds; of others' policies the first")
	fresh := flag.String("fresh", freshSeeds, "seeds that nothing was chosen by, for Turret's policies")
	keep := flag.String("results", "overload.jsonl", "the file of the results; they are not measured again")
	doc := flag.String("doc", "", "the folder with overload.md, whose figures and plots are written; none if empty")
	parallel := flag.Int("j", runtime.NumCPU(), "how many runs at a time")
	flag.Parse()

	r := &report{
		results: cells.Load(*keep), only: cells.Split(*only),
		known: cells.Numbers(*seeds), fresh: cells.Numbers(*fresh),
	}
	todo := r.cells(cells.Split(*policies))
	cells.RunAll(cells.Missing(todo, r.results), *parallel, *keep, "goodput", r.results)
	r.targets(os.Stdout)
	r.sections(os.Stdout)
	if *doc != "" {
		if err := r.document(*doc); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func measureCell(t *testing.T, c *cells.Cell) {
	e := experimentByID(c.Experiment)
	c.Measures = cells.Measures{}
	e.measure(t, c)
}
