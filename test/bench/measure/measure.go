// Package measure is how everything in bench is measured: rows in turns, by the
// CPU time of the process.
package measure

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	resultsFile = flag.String("results", "", "`file` to add every measurement to, in Go's benchmark format; report makes tables of it")
	rounds      = flag.Int("rounds", 40, "how often each row is measured")
)

// out is where measurements go.
var out = io.Discard

// Main is what TestMain calls: it runs the benchmarks, and adds what they have
// measured to the file of the flag -results. It returns the exit code.
func Main(m *testing.M) (code int) {
	flag.Parse()
	// Compare has rounds of its own.
	if err := flag.Set("test.benchtime", "1x"); err != nil {
		panic(err)
	}
	if *resultsFile == "" {
		return m.Run()
	}
	f, err := os.OpenFile(*resultsFile, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	w := bufio.NewWriter(f)
	out = w
	describe(w)
	code = m.Run()
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		panic(err)
	}
	return code
}

// A Row is one way to do what a comparison is about.
type Row struct {
	Name string // unique in its comparison; the report shows it
	F    func() // one call

	Goroutines int    // that call F at the same time; 0: one
	After      func() // unless nil: ends a turn, outside of what is measured
}

// Compare measures rows in turns, some milliseconds each, and writes for each
// turn the CPU time that the process took for a call, and what it allocated. The
// first row is the one that the report compares the others with, in the same
// round: on a machine that does something else, too, neighbours in time say more
// than figures that were taken one after the other. And CPU time says more than
// the clock, above all where two sides run.
func Compare(b *testing.B, rows ...Row) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // of no meaning here
	runtime.GC()               // what others have left behind
	calls := make([]int, len(rows))
	var round time.Duration
	for i, r := range rows {
		var took time.Duration
		calls[i], took = slice(r)
		round += took
	}
	say("load: " + load())
	for range turns(round) {
		lines := make([]string, len(rows))
		for _, i := range rand.Perm(len(rows)) { // no row is always behind the same one
			cpu, allocs, bytes := measure(rows[i], calls[i])
			lines[i] = fmt.Sprintf("%s/row=%s %d %.2f cpu-ns/op %.3f allocs/op %.1f B/op",
				b.Name(), strings.ReplaceAll(rows[i].Name, " ", "~"), calls[i], cpu, allocs, bytes)
		}
		say(strings.Join(lines, "\n"))
	}
}

func say(line string) {
	if _, err := fmt.Fprintln(out, line); err != nil {
		panic(err)
	}
}

// turns returns how many rounds there are, of which one takes so long: fewer
// where rows are slow.
func turns(round time.Duration) int {
	const patience, fewest = 9 * time.Second, 7
	if testing.Short() {
		return 1
	}
	return max(min(*rounds, int(patience/max(round, 1))), min(*rounds, fewest))
}

// slice returns how many calls take about ten milliseconds, and how long they
// took by the clock: the kernel may count CPU time in ticks of some milliseconds.
// The lesser of two tries counts, as the collector may be in one.
func slice(r Row) (calls int, took time.Duration) {
	const enough = 10 * time.Millisecond
	if testing.Short() {
		return max(1, r.Goroutines), 0
	}
	for calls = max(1, 8*r.Goroutines); ; calls *= 2 { // each goroutine is to do more than start
		start, cpu := time.Now(), r.spends(calls)
		if cpu > enough {
			start, cpu = time.Now(), min(cpu, r.spends(calls))
		}
		if cpu > enough {
			return calls, time.Since(start)
		}
	}
}

// spends makes so many calls and returns the CPU time that they took.
func (r Row) spends(calls int) time.Duration {
	defer r.end()
	before := spent()
	r.run(calls)
	return spent() - before
}

// run makes so many calls, on all goroutines together.
func (r Row) run(calls int) {
	if r.Goroutines <= 1 {
		for range calls {
			r.F()
		}
		return
	}
	var wg sync.WaitGroup
	for i := range r.Goroutines {
		wg.Go(func() {
			for range (calls + i) / r.Goroutines {
				r.F()
			}
		})
	}
	wg.Wait()
}

func (r Row) end() {
	if r.After != nil {
		r.After()
	}
}

// measure returns the nanoseconds of CPU time, the allocations and their bytes
// that the process spends for a call.
func measure(r Row, calls int) (cpu, allocs, bytes float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	took := r.spends(calls)
	runtime.ReadMemStats(&after)
	n := float64(calls)
	return float64(took) / n, float64(after.Mallocs-before.Mallocs) / n, float64(after.TotalAlloc-before.TotalAlloc) / n
}

func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
