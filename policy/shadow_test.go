package policy_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
)

// loadOf sends 200 RPCs, 10 ms apart, that take up to 40 ms each, and returns how
// each ended and how many events of a kind there were, by reason.
func loadOf(t *testing.T, text string, kind interceptors.EventKind) (ends string, events map[string]int) {
	synctest.Test(t, func(t *testing.T) {
		p := compile(t, text, policy.Config{})
		var mu sync.Mutex
		events = map[string]int{}
		observe := interceptors.Observe(func(_ context.Context, e interceptors.Event) {
			mu.Lock()
			defer mu.Unlock()
			if e.Kind == kind {
				events[e.Layer+" "+e.Reason]++
			}
		})
		w := newWorld(t, nil, interceptors.New(observe, p.Server()))
		ended := make([]string, 200)
		var calls sync.WaitGroup
		for i := range ended {
			calls.Go(func() {
				start := time.Now()
				plan := slow(time.Duration(i%5)*10*time.Millisecond + 3*time.Millisecond) // no two events at one instant
				if i%7 == 0 {
					plan = failing(codes.Internal, 0)
				}
				ended[i] = fmt.Sprint(endOf(w.call(t.Context(), interceptors.KindUnary, plan)), " ", time.Since(start))
			})
			time.Sleep(10 * time.Millisecond)
		}
		calls.Wait()
		ends = strings.Join(ended, "\n")
	})
	return ends, events
}

// A shadow rule has no effect, and counts what it would refuse if it were enforced.
func TestShadowCountsAndDoesNothing(t *testing.T) {
	bare, _ := loadOf(t, rules("client: {timeout: 1h}"), interceptors.EventShadow)
	for _, tt := range []struct{ block, reason string }{
		{"rate_limit: {requests: 30, burst: 5}", "r0 RATE_LIMITED"},
		{"limit: {max: 1}", "r0 LIMIT_FULL"},
		{"timeout: 25ms", "r0 TIMEOUT"},
	} {
		t.Run(tt.block, func(t *testing.T) {
			kind := interceptors.EventRefused
			if strings.HasPrefix(tt.block, "timeout") {
				kind = interceptors.EventTimeout
			}
			_, enforced := loadOf(t, rules("server: {"+tt.block+"}"), kind)
			ends, shadow := loadOf(t, rules("mode: SHADOW, server: {"+tt.block+"}"), interceptors.EventShadow)
			if ends != bare {
				t.Error("the shadow rule has changed how RPCs end")
			}
			if shadow[tt.reason] == 0 || shadow[tt.reason] != enforced[tt.reason] {
				t.Errorf("the shadow rule counts %v, the enforced one refuses %v", shadow, enforced)
			}
		})
	}
}

// A shadow rule stands beside the enforced one of the same methods.
func TestShadowBesideEnforced(t *testing.T) {
	text := "rules:\n- {name: now, methods: [\"/*\"], server: {rate_limit: {requests: 50, burst: 1}}}\n" +
		"- {name: next, mode: SHADOW, methods: [\"/*\"], server: {rate_limit: {requests: 10, burst: 1}}}\n" +
		"- {name: later, mode: SHADOW, methods: [\"/*\"], server: {rate_limit: {requests: 5, burst: 1}}}\n"
	_, refused := loadOf(t, text, interceptors.EventRefused)
	_, shadow := loadOf(t, text, interceptors.EventShadow)
	if len(refused) != 1 || refused["now RATE_LIMITED"] == 0 {
		t.Errorf("refused are %v", refused)
	}
	if len(shadow) != 2 || shadow["next RATE_LIMITED"] <= refused["now RATE_LIMITED"] || shadow["later RATE_LIMITED"] <= shadow["next RATE_LIMITED"] {
		t.Errorf("the shadow rules count %v, the enforced one refuses %v", shadow, refused)
	}
}
