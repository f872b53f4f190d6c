// Package suggest finds the word that was probably meant.
package suggest

import (
	"iter"
	"strings"
)

// maxLength bounds the words that are compared: the distance takes time in
// proportion to the product of their lengths.
const maxLength = 256

// Closest returns the one of the words that is most like word, the first of
// several, and "" if none is like it: a third of its letters at most may differ.
// Upper and lower case, and '-' for '_', do not count.
func Closest(word string, words iter.Seq[string]) string {
	best, distance := "", len(word)/3+1
	if len(word) > maxLength {
		return ""
	}
	plain := normal(word)
	for w := range words {
		if w == word || len(w) > maxLength || abs(len(w)-len(word)) >= distance {
			continue
		}
		if d := edits(plain, normal(w)); d < distance {
			best, distance = w, d
		}
	}
	return best
}

func normal(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

func abs(n int) int { return max(n, -n) }

// edits returns the edit distance of a and b in which two neighbors that
// changed places are one edit: the optimal string alignment distance
// (https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance).
func edits(a, b string) int {
	before, last, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		next[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			next[j] = min(last[j]+1, next[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				next[j] = min(next[j], before[j-2]+1)
			}
		}
		before, last, next = last, next, before
	}
	return last[len(b)]
}
