package discovery

import (
	"bytes"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait. It is far longer than anything takes, on a machine
// that stands still for seconds too.
const patience = 3 * time.Minute

// eventually waits until ok returns true. what says what is waited for.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	end, tick := time.NewTimer(patience), time.NewTicker(5*time.Millisecond)
	defer end.Stop()
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-end.C:
			t.Fatalf("after %v not yet: %s", patience, what)
		}
	}
}

// leavesNothing fails the test if it leaves goroutines: call it first, so that the
// check comes after all cleanups.
func leavesNothing(t *testing.T) {
	t.Helper()
	before := goroutines()
	t.Cleanup(func() {
		var left []string
		end, tick := time.NewTimer(patience), time.NewTicker(5*time.Millisecond)
		defer end.Stop()
		defer tick.Stop()
		for {
			left = left[:0]
			for id, stack := range goroutines() {
				if _, ok := before[id]; !ok {
					left = append(left, stack)
				}
			}
			if len(left) == 0 {
				return
			}
			select {
			case <-tick.C:
			case <-end.C:
				t.Errorf("after %v these goroutines are left:\n%s", patience, strings.Join(left, "\n\n"))
				return
			}
		}
	})
}

// goroutines returns the stacks of all goroutines but the caller's, by their numbers.
func goroutines() map[string]string {
	buffer := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buffer, true)
		if n < len(buffer) {
			buffer = buffer[:n]
			break
		}
		buffer = make([]byte, 2*len(buffer))
	}
	all := map[string]string{}
	for i, stack := range bytes.Split(buffer, []byte("\n\n")) {
		if i > 0 { // the first is the caller's
			id, _, _ := strings.Cut(string(stack), " [")
			all[id] = string(stack)
		}
	}
	return all
}
