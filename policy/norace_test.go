//go:build !race

package policy_test

const (
	defaultSeeds   = 60
	loadsUnderLoad = 2_000
	manyLoads      = 10_000
)
