// Package oracle holds a test of retried streams. For any calls of the caller and
// any ends of the attempts: with a Retry the caller sees what it sees on a bare
// connection to a server that behaves from the start as in the attempt that
// counted.
//
// A schedule is what the caller, the server and the network do, as plain data
// (schedule_test.go). It runs twice, each time in virtual time on a real
// client and server (play_test.go): through a stack with a Retry, and bare. What
// both runs observe (seen_test.go) must be equal. Which attempts may be the one that
// counts, and what may differ all the same, is in rules_test.go and nowhere else.
//
// Schedules come from random numbers, and from the fuzzer:
//
//	go test ./internal/oracle                                  # a few hundred seeds
//	go test ./internal/oracle -run 'TestOracle/seed=17$' -v    # one of them, printed
//	go test ./internal/oracle -seeds 20000                     # more
//	go test ./internal/oracle -fuzz FuzzOracle
package oracle
