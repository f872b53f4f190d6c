// Package bench measures Turret beside other libraries, in one run, as times of
// different runs and machines do not compare. It has a module of its own, so
// that those libraries are in nobody's module graph.
//
//	cd bench && GOWORK=off go test -run '^$' -bench . -count 6
package bench
