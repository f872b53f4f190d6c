package policy_test

import (
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
)

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := compile(t, rules("client: {retry: {resend: ALWAYS}, timeout: 1s, stream_timeout: 1s, limit: {max: 1}}"), policy.Config{})
		w := newWorld(t, interceptors.New(p.Client()), nil)
		for _, k := range kinds {
			before := w.ran.Load()
			if got := endOf(w.call(t.Context(), k, failing(codes.Unavailable, 1), policy.Once())); got != "Unavailable" {
				t.Errorf("%v: %s", k, got)
			}
			if n := w.ran.Load() - before; n != 1 {
				t.Errorf("%v: %d handlers ran", k, n)
			}
			if got := endOf(w.call(t.Context(), k, slow(time.Hour), policy.Once())); got != "DeadlineExceeded/TIMEOUT" {
				t.Errorf("%v: the timeout does not hold: %s", k, got)
			}
			if got := endOf(w.call(t.Context(), k, failing(codes.Unavailable, 1))); got != "OK" {
				t.Errorf("%v: without the option %s", k, got)
			}
		}
	})
}

func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := compile(t, rules("client: {timeout: 1s, stream_timeout: 1s, limit: {max: 1}}"), policy.Config{})
		w := newWorld(t, interceptors.New(p.Client()), nil)
		for _, k := range kinds {
			for _, tt := range []struct {
				within time.Duration
				takes  time.Duration
				want   string
			}{
				{100 * time.Millisecond, 200 * time.Millisecond, "DeadlineExceeded/TIMEOUT"},
				{10 * time.Second, 5 * time.Second, "OK"},
				{10 * time.Second, time.Hour, "DeadlineExceeded/TIMEOUT"},
			} {
				start := time.Now()
				got := endOf(w.call(t.Context(), k, slow(tt.takes), policy.Within(tt.within)))
				if took := time.Since(start); got != tt.want || took != min(tt.within, tt.takes) {
					t.Errorf("%v within %v: %s after %v", k, tt.within, got, took)
				}
			}
		}
		release := w.hold(t.Context(), interceptors.KindUnary)
		if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil, policy.Within(time.Hour), policy.Once())); got != "ResourceExhausted/LIMIT_FULL" {
			t.Errorf("the limit does not hold: %s", got)
		}
		_ = release()
	})
}

func TestWithinOfNothing(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Within(0) did not panic")
		}
	}()
	policy.Within(0)
}

// wait_for_ready leaves the call's own option as it is.
func TestWaitForReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := compile(t, rules("client: {wait_for_ready: true, timeout: 1s}"), policy.Config{})
		w := newWorld(t, interceptors.New(p.Client()), nil)
		w.pair.Server.Stop()
		if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil)); got != "DeadlineExceeded/TIMEOUT" {
			t.Errorf("it did not wait: %s", got)
		}
		if got := endOf(w.call(t.Context(), interceptors.KindUnary, nil, grpc.WaitForReady(false))); got != "Unavailable" {
			t.Errorf("the call's own option does not hold: %s", got)
		}
	})
}
