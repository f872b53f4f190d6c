//go:build unix

package faults

import (
	"os"
	"testing"
	"time"
)

// TestMain makes this binary a server when the environment says so.
func TestMain(m *testing.M) {
	if config := os.Getenv(asServer); config != "" {
		serve(config)
		return
	}
	m.Run()
}

// await waits until condition holds, and returns how long that took. It fails the
// test with what say returns if the condition does not hold within the bound.
func await(t testing.TB, what string, bound time.Duration, condition func() bool, say func() string) time.Duration {
	t.Helper()
	began := time.Now()
	for tick := time.NewTicker(2 * time.Millisecond); ; <-tick.C {
		if condition() {
			tick.Stop()
			return time.Since(began)
		}
		if time.Since(began) > bound {
			tick.Stop()
			t.Fatalf("after %v: still not: %s. %s", bound, what, say())
		}
	}
}
