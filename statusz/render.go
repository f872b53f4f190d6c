package statusz

import (
	"html/template"
	"maps"
	"slices"
	"strings"
	"time"
)

// mostCurves is how many rows of one table have a curve.
const mostCurves = 25

// shown is what the template is given.
type shown struct {
	View

	keep  int
	Reach time.Duration
}

// A drawn is a row with what the template needs beside it. Row is an exported
// type of the View.
type drawn struct {
	Row  any
	Path string
	S    shown
}

// Parts returns the parts with their curves.
func (s shown) Parts(parts []Part) []drawn {
	rows := make([]drawn, len(parts))
	for i := range parts {
		rows[i] = drawn{Row: parts[i], Path: parts[i].curve.path(s.keep), S: s}
	}
	return rows
}

// Rows returns the rows of a table with their curves.
func (s shown) Rows(of any) []drawn {
	switch of := of.(type) {
	case []Total:
		return s.rows(len(of), func(i int) (any, *series) { return of[i], of[i].curve })
	case []Endpoint:
		return s.rows(len(of), func(i int) (any, *series) { return of[i], of[i].curve })
	case []Event:
		return s.rows(len(of), func(i int) (any, *series) { return of[i], of[i].curve })
	case []Method:
		return s.rows(len(of), func(i int) (any, *series) { return of[i], of[i].curve })
	default:
		return nil
	}
}

func (s shown) rows(n int, row func(i int) (any, *series)) []drawn {
	rows := make([]drawn, n)
	for i := range rows {
		made, curve := row(i)
		rows[i] = drawn{Row: made, S: s}
		if i < mostCurves {
			rows[i].Path = curve.path(s.keep)
		}
	}
	return rows
}

// Ago returns how long ago t was.
func (s shown) Ago(t time.Time) string { return seconds(max(0, s.When.Sub(t).Seconds())) }

// Clock returns the time of day of t.
func (s shown) Clock(t time.Time) string { return t.Format("15:04:05") }

// Span returns how far back curves reach.
func (s shown) Span() string { return seconds(s.Reach.Seconds()) }

// Trouble returns how many things are wrong.
func (s shown) Trouble() int { return len(s.Findings) + s.MoreFindings }

// codeList returns how many calls ended with which codes, in words.
func codeList(codes map[string]uint64) string {
	var list []string
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		list = append(list, num(float64(codes[code]))+" "+code)
	}
	return strings.Join(list, ", ")
}

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"num": num, "seconds": seconds, "words": words,
	"percent": func(v float64) string { return num(100 * v) },
	"ratio":   func(used, most float64) string { return num(100*min(1, max(0, used/max(most, 1e-9)))) + "%" },
	"service": func(m string) string { return m[:strings.LastIndexByte(m, '/')+1] },
	"method":  func(m string) string { return m[strings.LastIndexByte(m, '/')+1:] },
	"codes":   codeList,
	"full":    func(used, most float64) bool { return used >= most },
}).Parse(pageHTML))
