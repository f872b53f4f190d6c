package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
)

// A buffer of one in front of a limit of one: the first RPC runs, the second one
// waits, the third is refused. It holds for every kind, on both sides.
func TestBuffer(t *testing.T) {
	for _, k := range kinds {
		for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
			inBubble(t, fmt.Sprintf("%v/%v", k, side), func(t *testing.T) {
				stack := interceptors.New(
					interceptors.Named("front", interceptors.Buffer(1)),
					interceptors.ConcurrencyLimit(1, limit.Queue{}),
				)
				of := worldOf{client: stack}
				if side == interceptors.SideServer {
					of = worldOf{server: stack}
				}
				w := newWorld(t, of)
				release, err := w.hold(t.Context(), k)
				if err != nil {
					t.Fatal(err)
				}
				waits := w.start(t.Context(), k, nil)
				synctest.Wait()
				refused := w.do(t.Context(), k, nil)
				if err := refused.wants(codes.ResourceExhausted, turret.ReasonBufferFull); err != nil {
					t.Error("third: ", err)
				}
				select {
				case <-waits.done:
					t.Errorf("second: over with %v, want it to wait", waits.err)
				default:
				}
				want := "front: buffer: 1 of 1 waiting, 1 inside, 0 over, 1 refused\nconcurrency limit: 1 of 1 in flight, 0 waiting, 1 entered, 0 refused"
				if got := stack.String(); got != want {
					t.Errorf("prints as %q, want %q", got, want)
				}
				if err := release(); err != nil {
					t.Error("first: ", err)
				}
				<-waits.done
				if err := errors.Join(waits.wants(codes.OK, ""), w.settle()); err != nil {
					t.Error("second: ", err)
				}
			})
		}
	}
}

// failedForGood is a layer whose service will never be ready again, for a reason
// that has a status of its own.
func failedForGood(inner interceptors.Service) interceptors.Service { return gone{inner} }

type gone struct{ interceptors.Service }

func (gone) Ready(context.Context) error { return status.Error(codes.NotFound, "no such backend") }

// The cause of a refusal is text: a status in it does not become the RPC's.
func TestBufferBeforeWhatHasFailed(t *testing.T) {
	for _, k := range kinds {
		for _, side := range []interceptors.Side{interceptors.SideClient, interceptors.SideServer} {
			inBubble(t, fmt.Sprintf("%v/%v", k, side), func(t *testing.T) {
				stack := interceptors.New(interceptors.Buffer(1), failedForGood)
				of := worldOf{client: stack}
				if side == interceptors.SideServer {
					of = worldOf{server: stack}
				}
				got := newWorld(t, of).do(t.Context(), k, nil)
				if err := got.wants(codes.Unavailable, turret.ReasonBufferClosed); err != nil {
					t.Error(err)
				}
				if !strings.Contains(got.err.Error(), "no such backend") {
					t.Errorf("%v does not say why", got.err)
				}
			})
		}
	}
}
