//go:build !race

package limit_test

const manyKeys = 1_000_000
