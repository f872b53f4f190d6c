package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// compare measures rows in turns, some milliseconds each, and prints the CPU
// time that the process took for each call: the median, the lower quartile (when
// little disturbed), and the median of the ratio to the first row in the same
// round. On a machine that does something else, too, ratios of neighbours
// in time say more than figures that were taken one after the other; and CPU
// time says more than the clock, above all where two sides run.
func compare(b *testing.B, rows ...row) {
	b.Helper()
	calls := make([]int, len(rows))
	for i, row := range rows {
		calls[i] = slice(row.f)
	}
	times, ratios := make([][]float64, len(rows)), make([][]float64, len(rows))
	for b.Loop() {
		for _, i := range rand.Perm(len(rows)) { // no row is always behind the same one
			times[i] = append(times[i], cpu(rows[i].f, calls[i]))
		}
		round := len(times[0]) - 1
		for i := range rows {
			ratios[i] = append(ratios[i], times[i][round]/times[0][round])
		}
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintf(w, "\t\tns\tquartile\tx first\tallocs\t\n")
	for i, row := range rows {
		_, _ = fmt.Fprintf(w, "%s\t\t%.0f\t%.0f\t%.3f\t%.0f\t\n", row.name, quantile(times[i], 0.5), quantile(times[i], 0.25), quantile(ratios[i], 0.5), testing.AllocsPerRun(100, row.f))
	}
	_ = w.Flush() // to memory
	// b.Log stops after ten lines.
	fmt.Printf("\n%s, %d rounds\n%s", b.Name(), len(times[0]), text.String())
}

// slice returns how often f runs in about ten milliseconds, if nothing disturbs
// it: the kernel may count CPU time in ticks of some milliseconds.
func slice(f func()) (calls int) {
	for calls = 1; ; calls *= 2 {
		least := time.Hour
		for range 3 {
			start := time.Now()
			for range calls {
				f()
			}
			least = min(least, time.Since(start))
		}
		if least > 10*time.Millisecond {
			return calls
		}
	}
}

// cpu returns the nanoseconds of CPU time that the process spends for a call.
func cpu(f func(), calls int) float64 {
	start := spent()
	for range calls {
		f()
	}
	return float64(spent()-start) / float64(calls)
}

func spent() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func quantile(of []float64, q float64) float64 {
	of = slices.Sorted(slices.Values(of))
	return of[int(q*float64(len(of)))]
}
