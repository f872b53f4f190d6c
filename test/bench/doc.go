// Package bench measures Turret beside other libraries, in one run, as times of
// different runs and machines do not compare. It has a module of its own, so
// that those libraries are in no user's module graph.
//
// In each comparison the rows take turns; see measure.Compare. `make bench` runs
// all of them and writes doc/performance.md with the program in report; one
// alone, as a table on the screen:
//
//	make bench BENCH=BenchmarkRefusal
package bench
