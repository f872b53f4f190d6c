package docs

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A towerRow is a row of the table in doc/tower.md.
type towerRow struct {
	line              int
	item, turret, why string
}

var (
	towerLine = regexp.MustCompile("^\\| `([^`]+)` \\| ([^|]*) \\| ([^|]*)\\|$")
	codeSpan  = regexp.MustCompile("`([^`]+)`")
	goName    = regexp.MustCompile(`^([a-z]\w*)((\.[A-Z]\w*){1,2})$`)
	idiom     = regexp.MustCompile(`^the language does it: \[(\w+)\]\(#(\w+)\)$`)
	heading   = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// towerRows returns the rows of the tables below the heading "The table".
func towerRows(text string) []towerRow {
	_, table, _ := strings.Cut(text, "\n## The table\n")
	first := strings.Count(text, "\n") - strings.Count(table, "\n")
	var rows []towerRow
	for i, line := range strings.Split(table, "\n") {
		if m := towerLine.FindStringSubmatch(line); m != nil {
			rows = append(rows, towerRow{first + i + 1, m[1], m[2], m[3]})
		}
	}
	return rows
}

// idioms are what the language may be left to do.
var idioms = []string{"boxing", "either", "pinning", "clone", "poll"}

// check returns what is wrong with the names of a row: each must exist, and there
// must be one, or instead an idiom that a section of the document shows.
func (r towerRow) check(names map[string]bool, text string) (faults []string) {
	fault := func(format string, a ...any) {
		faults = append(faults, fmt.Sprintf("line %d, %s: ", r.line, r.item)+fmt.Sprintf(format, a...))
	}
	found := false
	for _, m := range codeSpan.FindAllStringSubmatch(r.turret, -1) {
		if found = true; !goName.MatchString(m[1]) {
			fault("%q is not a Go name with its package", m[1])
		}
	}
	for _, m := range codeSpan.FindAllStringSubmatch(r.turret+r.why, -1) {
		if goName.MatchString(m[1]) && !names[m[1]] {
			fault("there is no %s", m[1])
		}
	}
	if m := idiom.FindStringSubmatch(r.turret); m != nil {
		found = true
		if !slices.Contains(idioms, m[1]) || m[1] != m[2] {
			fault("%q is none of %v", m[1], idioms)
		}
		if !slices.ContainsFunc(heading.FindAllStringSubmatch(text, -1), func(h []string) bool { return strings.EqualFold(h[1], m[2]) }) {
			fault("no section shows %q", m[2])
		}
	}
	if !found {
		fault("neither a name nor an idiom")
	}
	return faults
}

// checkTower returns what is wrong with the document text.
func checkTower(text string, items []string, names map[string]bool) (faults []string) {
	rows := map[string]int{}
	for _, r := range towerRows(text) {
		if rows[r.item]++; !slices.Contains(items, r.item) {
			faults = append(faults, fmt.Sprintf("line %d: Tower has no %s", r.line, r.item))
		}
		faults = append(faults, r.check(names, text)...)
	}
	for _, item := range items {
		if rows[item] != 1 {
			faults = append(faults, fmt.Sprintf("%s has %d rows, want 1", item, rows[item]))
		}
	}
	return faults
}

// towerItems returns the list of Tower's public items.
func towerItems(t *testing.T) []string {
	t.Helper()
	var items []string
	for line := range strings.Lines(read(t, filepath.Join("testdata", "tower-items.txt"))) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			items = append(items, line)
		}
	}
	if len(items) < 200 {
		t.Fatalf("only %d items", len(items))
	}
	return items
}

// TestTower holds doc/tower.md to the code and to the list of Tower's items.
func TestTower(t *testing.T) {
	for _, fault := range checkTower(read(t, filepath.Join(top, "doc", "tower.md")), towerItems(t), goNames(t)) {
		t.Error(fault)
	}
}

// TestTowerFaultsAreNoticed makes sure that the test above can fail.
func TestTowerFaultsAreNoticed(t *testing.T) {
	good := read(t, filepath.Join(top, "doc", "tower.md"))
	items, names := towerItems(t), goNames(t)
	tests := map[string]struct{ from, to, want string }{
		"a name that is gone":           {"`hedge.LayerOf`", "`hedge.LayerBy`", "there is no hedge.LayerBy"},
		"a method that is gone":         {"`turrettest.Mock.Allow`", "`turrettest.Mock.Permit`", "there is no turrettest.Mock.Permit"},
		"a package that is gone":        {"`shed.ErrOverloaded`", "`shedding.ErrOverloaded`", "there is no shedding.ErrOverloaded"},
		"no Go name":                    {"| `turret.Steer` |", "| `Steer` |", "not a Go name"},
		"nothing":                       {"| `turret.Steer` |", "| see there |", "neither a name nor an idiom"},
		"a name in the reasons":         {"the zero `limit.Queue` refuses", "the zero `limit.Line` refuses", "there is no limit.Line"},
		"the language does too much":    {"| `turret.Steer` |", "| the language does it: [steering](#steering) |", `"steering" is none of`},
		"an idiom that is not shown":    {"\n### Either\n", "\n### Neither\n", `no section shows "either"`},
		"an item that is missing":       {"| `steer::Picker` | `turret.Steer` | A function; it may wait. |\n", "", "steer::Picker has 0 rows"},
		"an item that Tower never had":  {"| `steer::Picker` |", "| `steer::Chooser` |", "Tower has no steer::Chooser"},
		"a row without its last column": {"| `steer::Picker` | `turret.Steer` | A function; it may wait. |", "| `steer::Picker` | `turret.Steer` |", "steer::Picker has 0 rows"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, tt.from) {
				t.Fatalf("doc/tower.md has no %q to spoil", tt.from)
			}
			faults := checkTower(strings.Replace(good, tt.from, tt.to, 1), items, names)
			if !slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("found %q, want %q", faults, tt.want)
			}
		})
	}
}
