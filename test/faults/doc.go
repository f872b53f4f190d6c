// Package faults breaks servers and connections under load and checks the RPCs: servers
// are real processes (the test binary, executed again) that are killed, stopped
// and restarted, and connections lead through a proxy that cuts them, stalls
// them and loses what they carry. The client and the servers have full stacks,
// and the client chooses among two servers with the policy turret.P2C.
//
//	cd test/faults && GOWORK=off go test -race -v .
//
// Each test breaks one thing under a load of all four kinds of RPC and then
// asserts the same promises:
//
//   - every RPC ends with a status, by its deadline;
//   - nothing is delivered twice: servers write down each message before they
//     handle it, in a pipe that outlives them, and the client numbers what it sends;
//   - all permits come back: those of limits and breakers on both sides, and
//     those of the balancer;
//   - every span ends, and no goroutine is left in the client's process;
//   - the callers, and then all servers, are back to normal within a time that
//     the test states. What was measured is printed with -v.
//
// TestRollingRestart, TestRestartWithoutLameDuck and TestSignalsEndPhases have
// other clients, without stacks, and servers that drain when they are signalled.
//
// No test skips itself or needs privileges. They need a Unix: signals stop
// processes. They wait for conditions, with deadlines, and do not sleep.
//
// The same promises over a long time and as many RPCs as the machine can do are
// in package soak.
package faults
