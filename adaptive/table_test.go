package adaptive

import (
	"flag"
	"fmt"
	"strings"
	"testing"
)

var (
	table = flag.String("table", "", "print a table of the scenarios whose names begin with this, * for all")
	limit = flag.Int("limit", -1, "a limit that does not move, in place of the adaptive one; 0: none at all")
)

// TestTable prints the results of scenarios, a line for each seed:
//
//	go test ./adaptive -run TestTable -v -table '*'
//
// with goodput, that of the first second, p99 as a multiple of that of the work,
// the refused before the event, all in per cent, seconds until recovery, and the
// greatest limit.
func TestTable(t *testing.T) {
	if *table == "" {
		t.Skip("no -table")
	}
	for _, sc := range scenarios {
		if *table != "*" && !strings.HasPrefix(sc.name, *table) {
			continue
		}
		door := adaptively(sc.config)
		if *limit >= 0 {
			door = fixedly(*limit)
		}
		var lines []string
		for _, seed := range []uint64{1, 2, 3, 4, 11, 12, 13} {
			r := sc.play(seed, door)
			lines = append(lines, fmt.Sprintf("%5.1f f%3.0f s%5.1f x%.2f n%.2f r%.1f L%d late%d",
				100*r.goodput, 100*r.first, 100*r.second, r.p99, 100*r.refused, r.recovered, r.most, r.late))
		}
		t.Logf("%-10s\n   %s", sc.name, strings.Join(lines, "\n   "))
	}
}
