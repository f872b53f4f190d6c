//go:build race

package adaptive

// underRace says that the race detector watches. It makes the simulations, which
// have one goroutine, ten times slower and has nothing to find in them.
const underRace = true
