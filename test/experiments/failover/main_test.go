package main

import (
	"testing"
	"time"
)

// TestFailOver has gRPC's own priority policy above ours. Of the ten seconds in
// which every server of the first locality answers UNAVAILABLE at most one call in
// a hundred fails, and the calls are back when the bans of that time are over.
func TestFailOver(t *testing.T) {
	o := run(t, fails(), policies[0], 1)
	if 100*o.failed > o.calls {
		t.Errorf("%d of %d calls failed, want at most 1 %%", o.failed, o.calls)
	}
	// In ten seconds bans of 2.5 s and 5 s, or 5 s and 10 s, have begun.
	if o.back < 0 || o.back > 10*time.Second {
		t.Errorf("the calls are back after %v, want at most 10 s", o.back)
	}
	if o.longest > 100*time.Millisecond {
		t.Errorf("a call took %v, want no waiting for a trial that fails at once", o.longest)
	}
}
