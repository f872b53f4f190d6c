package balance

import (
	"math/bits"
	"slices"
)

// below maps one random word to an index below n. The bias is less than one in
// 2^64/n.
func below(random uint64, n int) int {
	hi, _ := bits.Mul64(random, uint64(n))
	return int(hi)
}

// pair maps one random word to two different indexes below n, every ordered
// pair with the same chance. n is at least 2 and less than 2^31.
func pair(random uint64, n int) (i, j int) {
	p, _ := bits.Mul64(random, uint64(n)*uint64(n-1))
	i, j = int(p/uint64(n-1)), int(p%uint64(n-1))
	if j >= i {
		j++
	}
	return i, j
}

// distinct fills into with different indexes below n, every ordered choice of
// them with the same chance: ties go to the first. n is at least len(into), and
// that is at most maxChoices.
func distinct(random func() uint64, n int, into []int) {
	var ascending [maxChoices]int // those drawn so far
	for k := range into {
		// The i-th of the indexes that are left: step over those that are gone.
		i, at := below(random(), n-k), 0
		for at < k && ascending[at] <= i {
			i++
			at++
		}
		copy(ascending[at+1:k+1], ascending[at:k])
		ascending[at] = i
		into[k] = i
	}
}

// An alias table draws an index with a chance in proportion to its weight, in
// constant time (Vose, IEEE Transactions on Software Engineering 17(9), 1991).
type alias struct {
	multiples []float64 // the weights, of which the least is 1
	keep      []float64 // the chance to keep what was drawn
	other     []int     // what to take otherwise
}

// newAlias returns the table of weights, which must be positive and finite. It takes
// time in proportion to their number, once for each snapshot.
func newAlias(weights []float64) *alias {
	n := len(weights)
	a := &alias{make([]float64, n), make([]float64, n), make([]int, n)}
	sum, least := 0.0, slices.Min(weights)
	for _, w := range weights {
		sum += w
	}
	// Invariant of the loop below: keep is the share of its own column that an index still
	// needs, and the shares of small and large sum up to their number.
	var small, large []int
	for i, w := range weights {
		a.multiples[i] = w / least
		a.keep[i] = w * float64(n) / sum
		if a.keep[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.other[s] = l
		if a.keep[l] -= 1 - a.keep[s]; a.keep[l] < 1 {
			large, small = large[:len(large)-1], append(small, l)
		}
	}
	for _, i := range append(small, large...) { // what rounding left over
		a.keep[i] = 1
	}
	return a
}

// draw maps one random word to an index.
// The high word of the product is the column, and the low word, uniform within the
// column, decides between the column's own index and the other one.
func (a *alias) draw(random uint64) int {
	hi, lo := bits.Mul64(random, uint64(len(a.keep)))
	if float64(lo>>11)/(1<<53) < a.keep[hi] {
		return int(hi)
	}
	return a.other[hi]
}
