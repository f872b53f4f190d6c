//go:build !race

package interceptors_test

// exact is whether allocations are counted as they are: the race detector adds
// some of its own, and empties pools at random.
const exact = true
