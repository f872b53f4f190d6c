package interceptors_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/adaptive"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/throttle"
)

func durationpbOf(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

// A unary RPC holds a place until it is over. A stream waits for its turn and then
// holds none.
func TestAdaptiveLimitAdmitsStreamsLikeCalls(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			gate := adaptive.New(adaptive.Config{Max: 1})
			w := newWorld(t, worldOf{server: interceptors.New(interceptors.AdmitAdaptive(gate))})
			release, err := w.hold(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			if k == interceptors.KindUnary {
				want = 1
			}
			if got := gate.Stats().InFlight; got != want {
				t.Errorf("%d places are held by a %v RPC, want %d", got, k, want)
			}
			other, began := w.start(t.Context(), k, nil), time.Now()
			if want == 1 {
				time.Sleep(300 * time.Millisecond)
			}
			if err := release(); err != nil {
				t.Error(err)
			}
			<-other.done
			if err := other.wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
			if waited := time.Since(began); want == 1 && waited < 300*time.Millisecond || want == 0 && waited > 0 {
				t.Errorf("the next RPC waited for %v", waited)
			}
			if s := gate.Stats(); s.Entered != 2 || s.InFlight != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestAdaptiveLimitRefusesWithAStatus(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			gate := adaptive.New(adaptive.Config{Max: 1})
			w := newWorld(t, worldOf{server: interceptors.New(interceptors.AdmitAdaptive(gate))})
			ticket, err := gate.Enter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := w.do(t.Context(), k, nil).wants(codes.ResourceExhausted, turret.ReasonQueueTimeout); err != nil {
				t.Error(err)
			}
			gate.Leave(ticket, turret.Unused)
			if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// A server of four workers, with a limit that begins five times too high, answers
// most of what it can under twice the load, over real gRPC.
func TestAdaptiveLimitUnderASurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const work, deadline = 20 * time.Millisecond, 200 * time.Millisecond
		workers := make(chan struct{}, 4) // 200 RPCs a second
		busy := turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			select {
			case workers <- struct{}{}:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			time.Sleep(work)
			<-workers
			return inner.Call(ctx, rpc)
		})
		w := newWorld(t, worldOf{server: interceptors.New(interceptors.AdaptiveLimit(adaptive.Config{}), busy)})
		var answered atomic.Int64
		var wg sync.WaitGroup
		begin := func(counted bool) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				if w.do(ctx, interceptors.KindUnary, nil).err == nil && counted {
					answered.Add(1)
				}
			})
		}
		for range 2 * 140 { // two seconds at 0.7 of what it can
			begin(false)
			time.Sleep(time.Second / 140)
		}
		for i := range 5 * 400 { // five at twice that
			begin(i >= 400)
			time.Sleep(time.Second / 400)
		}
		wg.Wait()
		if got := answered.Load(); got < 4*200*93/100 {
			t.Errorf("%d RPCs answered in four seconds, of 800 that the server can answer", got)
		}
	})
}

func TestThrottleTurnsAwayWhatTheServerWouldRefuse(t *testing.T) {
	for _, k := range kinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.Throttle(throttle.Config{}))})
			refused, throttled := 0, 0
			for range 500 {
				r := w.do(t.Context(), k, &echov1.Plan{Failure: &echov1.Failure{Code: int32(codes.ResourceExhausted)}})
				switch {
				case r.wants(codes.ResourceExhausted, throttle.ReasonThrottled) == nil:
					throttled++
				case r.wants(codes.ResourceExhausted, "") == nil:
					refused++
				default:
					t.Fatal(r.err)
				}
			}
			if throttled < 400 || refused == 0 {
				t.Errorf("%d RPCs turned away, %d refused by the server; want nearly all turned away", throttled, refused)
			}
			time.Sleep(2 * time.Second)
			if err := w.do(t.Context(), k, nil).wants(codes.OK, ""); err != nil {
				t.Errorf("two seconds later: %v", err)
			}
		})
	}
}

func TestOverloadLayersRefuseInvalidConfigs(t *testing.T) {
	for name, f := range map[string]func(){
		"AdaptiveLimit":  func() { interceptors.AdaptiveLimit(adaptive.Config{Max: -1}) },
		"AdmitAdaptive":  func() { interceptors.AdmitAdaptive(nil) },
		"LearnThreshold": func() { interceptors.LearnThreshold(nil) },
		"Throttle":       func() { interceptors.Throttle(throttle.Config{K: 1}) },
		"PerKey": func() {
			interceptors.PerKey(func(context.Context, *interceptors.RPC) string { return "" }, limit.KeyedConfig{MaxKeys: -1})
		},
		"PerKey, no key": func() { interceptors.PerKey(nil, limit.KeyedConfig{}) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				err, ok := recover().(error)
				if _, field := errors.AsType[*turret.FieldError](err); !ok || !field {
					t.Errorf("panics with %v, want a *turret.FieldError", err)
				}
			}()
			f()
		})
	}
}
