//go:build race

package limit_test

// manyKeys is a tenth of what it is without the race detector, which makes each
// ten times slower.
const manyKeys = 100_000
