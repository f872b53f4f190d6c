package main

import (
	"io"
	"testing"
	"time"
)

// TestSmallFleet has 100 clients and servers. With a ring the calls of servers
// differ little more than if every client used all of them, with 8 % of
// the connections; the server that becomes slow loses most of its calls.
func TestSmallFleet(t *testing.T) {
	f := fleet{clients: 100, servers: 100, subset: ring(8), duration: 6 * time.Second, onset: 4 * time.Second}
	o := simulate(t, f, 1)
	if o.connections != 800 {
		t.Errorf("%d connections, want 800", o.connections)
	}
	if o.deviation > 0.1 || o.most > 1.3 {
		t.Errorf("the calls of a server deviate by %.3f, the most are %.2f of the mean", o.deviation, o.most)
	}
	if fair := int(load * workers / service.Seconds() * 2); o.sickCalls > fair/2 {
		t.Errorf("the slow server gets %d calls in 2 s, want at most half of %d", o.sickCalls, fair)
	}
	if o.alarm == 0 || o.known <= o.alarm {
		t.Errorf("an alarm after %v, known to all after %v", o.alarm, o.known)
	}
}

// TestSubsetsArePrinted runs the other table for a small fleet.
func TestSubsetsArePrinted(*testing.T) { subsets(io.Discard, 200) }
