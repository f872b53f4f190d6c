//go:build race

package policy_test

const (
	defaultSeeds   = 10
	loadsUnderLoad = 700
	manyLoads      = 1_000
)
