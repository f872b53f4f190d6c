package balance

import (
	"math"
	"math/rand/v2"
	"testing"
)

// chiSquare returns how far counts are from what is expected, in standard
// deviations of a fair draw.
func chiSquare(counts []int, expected func(i int) float64) float64 {
	sum := 0.0
	for i, n := range counts {
		e := expected(i)
		sum += (float64(n) - e) * (float64(n) - e) / e
	}
	free := float64(len(counts) - 1)
	return (sum - free) / math.Sqrt(2*free)
}

func TestPair(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)).Uint64
	for _, n := range []int{2, 3, 10, 100} {
		counts := make([]int, n*n)
		const draws = 200_000
		for range draws {
			i, j := pair(random(), n)
			if i == j || i < 0 || j < 0 || i >= n || j >= n {
				t.Fatalf("n = %d: drew %d and %d", n, i, j)
			}
			counts[i*n+j]++
		}
		var ordered []int
		for k, c := range counts {
			if k/n != k%n {
				ordered = append(ordered, c)
			}
		}
		if x := chiSquare(ordered, func(int) float64 { return draws / float64(n*(n-1)) }); x > 4 {
			t.Errorf("n = %d: ordered pairs are %.1f standard deviations from uniform", n, x)
		}
	}
	for _, n := range []int{2, 10_000, 46_342, 100_000, math.MaxInt32} { // also where int has 32 bits
		for _, word := range []uint64{0, 1 << 63, 3 << 62, math.MaxUint64} {
			if i, j := pair(word, n); i == j || i < 0 || j < 0 || j >= n || i >= n {
				t.Errorf("pair(%d, %d) = %d, %d", word, n, i, j)
			}
		}
	}
}

func TestDistinct(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4)).Uint64
	for _, tt := range []struct{ n, k int }{{3, 3}, {5, 3}, {100, 10}} {
		counts, firsts := make([]int, tt.n), make([]int, tt.n)
		into := make([]int, tt.k)
		const draws = 50_000
		for range draws {
			distinct(random, tt.n, into)
			seen := map[int]bool{}
			for _, i := range into {
				if seen[i] || i < 0 || i >= tt.n {
					t.Fatalf("drew %v of %d", into, tt.n)
				}
				seen[i] = true
				counts[i]++
			}
			firsts[into[0]]++
		}
		if x := chiSquare(firsts, func(int) float64 { return float64(draws) / float64(tt.n) }); x > 4 {
			t.Errorf("%d of %d: the first is %.1f standard deviations from uniform", tt.k, tt.n, x)
		}
		if tt.k < tt.n {
			if x := chiSquare(counts, func(int) float64 { return float64(draws*tt.k) / float64(tt.n) }); x > 4 {
				t.Errorf("%d of %d: %.1f standard deviations from uniform", tt.k, tt.n, x)
			}
		}
	}
}

func TestAlias(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6)).Uint64
	for _, weights := range [][]float64{{1, 1}, {1, 3}, {5, 1, 1, 1}, {1, 2, 3, 4, 5, 6, 7}, {1e9, 1, 1e9}} {
		a, sum := newAlias(weights), 0.0
		for _, w := range weights {
			sum += w
		}
		counts := make([]int, len(weights))
		const draws = 100_000
		for range draws {
			counts[a.draw(random())]++
		}
		for i, w := range weights {
			want := draws * w / sum
			if d := math.Abs(float64(counts[i]) - want); d > 5*math.Sqrt(want)+5 {
				t.Errorf("weights %v: index %d drawn %d times, want %.0f", weights, i, counts[i], want)
			}
		}
	}
}

func FuzzPair(f *testing.F) {
	f.Add(uint64(0), 2)
	f.Add(uint64(math.MaxUint64), 1<<31-1)
	f.Fuzz(func(t *testing.T, word uint64, n int) {
		if n < 2 || n > 1<<31-1 {
			return
		}
		if i, j := pair(word, n); i == j || i < 0 || j < 0 || i >= n || j >= n {
			t.Fatalf("pair(%d, %d) = %d, %d", word, n, i, j)
		}
	})
}
