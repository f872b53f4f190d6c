package suggest

import (
	"slices"
	"strings"
	"testing"
)

func TestClosest(t *testing.T) {
	words := []string{"max_attempts", "codes", "backoff", "budget", "OFF", "SHADOW"}
	for word, want := range map[string]string{
		"maxAtempts":              "max_attempts",
		"max-attempts":            "max_attempts",
		"cdoes":                   "codes",
		"off":                     "OFF",
		"shadow":                  "SHADOW",
		"budgets":                 "budget",
		"timeout":                 "",
		"":                        "",
		"codes":                   "",
		strings.Repeat("a", 1000): "",
	} {
		if got := Closest(word, slices.Values(words)); got != want {
			t.Errorf("Closest(%q) is %q, want %q", word, got, want)
		}
	}
}

func FuzzEdits(f *testing.F) {
	f.Add("kitten", "sitting")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > maxLength || len(b) > maxLength {
			return
		}
		d := edits(a, b)
		if d != edits(b, a) {
			t.Errorf("the distance of %q and %q is not the same both ways", a, b)
		}
		if (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Errorf("the distance of %q and %q is %d", a, b, d)
		}
	})
}
