package adaptive

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
)

var (
	table = flag.String("table", "", "print a table of the scenarios whose names begin with this, * for all")
	limit = flag.Int("limit", -1, "a limit that does not move, in place of the adaptive one; 0: none at all")
)

// tableSeeds are those of doc/overload.md. The constants were chosen on the first
// four.
var tableSeeds = []uint64{1, 2, 3, 4, 11, 12, 13}

// TestTable prints what came of scenarios, a row for each, over all seeds:
//
//	go test ./adaptive -run TestTable -v -table '*'
//	go test ./adaptive -run TestTable -v -table '*' -limit 30
func TestTable(t *testing.T) {
	if *table == "" {
		t.Skip("no -table")
	}
	rows := []string{"", "| scenario | goodput %: least, mean | in the first second % | p99: median, most | refused before %: most | recovered s: most | late |", "|---|---|---|---|---|---|---|"}
	for _, sc := range scenarios {
		if *table != "*" && !strings.HasPrefix(sc.name, *table) {
			continue
		}
		door := adaptively(sc.config)
		if *limit >= 0 {
			door = fixedly(*limit)
		}
		rows = append(rows, row(sc, door))
	}
	t.Log(strings.Join(rows, "\n"))
}

// row plays sc with all seeds.
func row(sc scenario, door func(*sim) admission) string {
	var goodput, first, p99, refused, recovered []float64
	sum, late := 0.0, 0
	for _, seed := range tableSeeds {
		r := sc.play(seed, door)
		goodput, first = append(goodput, 100*r.goodput), append(first, 100*r.first)
		p99, refused = append(p99, r.p99), append(refused, 100*r.refused)
		recovered = append(recovered, r.recovered)
		sum, late = sum+100*r.goodput, late+r.late
	}
	slices.Sort(p99)
	return fmt.Sprintf("| %s | %.1f, %.1f | %.0f–%.0f | x%.2f, x%.2f | %.2f | %.1f | %d |", sc.name,
		slices.Min(goodput), sum/float64(len(tableSeeds)), slices.Min(first), slices.Max(first),
		p99[len(p99)/2], p99[len(p99)-1], slices.Max(refused), slices.Max(recovered), late)
}

// TestLevelsTable prints how many calls of each level are answered under three
// times the load: go test ./adaptive -run TestLevelsTable -v -table '*'.
func TestLevelsTable(t *testing.T) {
	if *table == "" {
		t.Skip("no -table")
	}
	for _, seed := range tableSeeds {
		sc := scenario{normal: 0.7, during: 3, level: fourLevels}
		r := sc.play(seed, adaptively(Config{}))
		t.Logf("| %d | %.1f | %.2f | %.1f | %.1f | %.2f |", seed, 100*r.goodput,
			100*r.byLevel[0], 100*r.byLevel[1], 100*r.byLevel[2], 100*r.byLevel[3])
	}
}
