//go:build !race

package adaptive

// underRace says that the race detector watches.
const underRace = false
