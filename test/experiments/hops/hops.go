// Package hops plays retries over several hops, with real gRPC in virtual time:
// clients call a gateway, whose handler calls a server, whose handler calls a
// backend that fails for a while.
package hops

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/failsafe-go/failsafe-go/budget"
	"github.com/failsafe-go/failsafe-go/failsafegrpc"
	grpcretry "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/test/experiments/memory"
)

// A Retrier is how the clients, the gateway and the server retry. Each has three
// attempts for a call.
type Retrier struct {
	Name    string
	Dial    func() []grpc.DialOption // of each of them
	Returns func(err error) error    // what a handler makes of the error of its call; nil: the same
}

// Ours is Turret's Retry with its zero configuration.
const Ours = "Retry"

// All returns the retriers in the order of the table.
func All() []Retrier {
	return []Retrier{
		{Name: Ours, Dial: turrets(retry.Config{})},
		{Name: Ours + " (error wrapped)", Dial: turrets(retry.Config{}), Returns: func(err error) error { return fmt.Errorf("the next hop: %w", err) }},
		{Name: Ours + " (error replaced)", Dial: turrets(retry.Config{}), Returns: func(error) error { return status.Error(codes.Unavailable, "sorry") }},
		{Name: Ours + " (no budget)", Dial: turrets(retry.Config{Budget: retry.Unlimited})},
		{Name: "no retries", Dial: func() []grpc.DialOption { return []grpc.DialOption{grpc.WithDisableRetry()} }},
		{Name: "gRPC's retryPolicy", Dial: configured("")},
		{Name: "gRPC's retryPolicy (throttled)", Dial: configured(`,"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}`)},
		{Name: "go-grpc-middleware retry", Dial: func() []grpc.DialOption {
			return interceptor(grpcretry.UnaryClientInterceptor(grpcretry.WithMax(attempts), grpcretry.WithCodes(codes.Unavailable)))
		}},
		{Name: "failsafe-go retry", Dial: func() []grpc.DialOption {
			return interceptor(failsafegrpc.NewUnaryClientInterceptor(failsafegrpc.NewRetryPolicyBuilder[any]().Build()))
		}},
		{Name: "failsafe-go retry (budget)", Dial: func() []grpc.DialOption {
			return interceptor(failsafegrpc.NewUnaryClientInterceptor(failsafegrpc.NewRetryPolicyBuilder[any]().WithBudget(budget.New()).Build()))
		}},
	}
}

const attempts = 3

func turrets(c retry.Config) func() []grpc.DialOption {
	return func() []grpc.DialOption {
		return append(interceptors.New(interceptors.Retry(c)).DialOptions(), grpc.WithDisableRetry())
	}
}

func interceptor(i grpc.UnaryClientInterceptor) []grpc.DialOption {
	return []grpc.DialOption{grpc.WithUnaryInterceptor(i), grpc.WithDisableRetry()}
}

// configured is the policy of a service config, with the back-off of Turret's
// Retry.
func configured(more string) func() []grpc.DialOption {
	config := `{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.05s","maxBackoff":"1s",` +
		`"backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]` + more + `}`
	return func() []grpc.DialOption { return []grpc.DialOption{grpc.WithDefaultServiceConfig(config)} }
}

// A Storm is what the backend got while it failed, as a multiple of the calls, and
// what became of the calls after it.
type Storm struct {
	Average   float64
	Worst     float64 // in the worst half second
	Recovered float64 // seconds until the last 100 ms with a failed call ended
}

const (
	perSecond = 200
	healthy   = 11 * time.Second // a budget's window is full by then
	failing   = 10 * time.Second
	after     = 4 * time.Second
	work      = time.Millisecond
	half      = 500 * time.Millisecond
	bin       = 100 * time.Millisecond
)

// Run plays a storm. The calls are as far apart as each other, but for a part of
// it. It must be called outside of a synctest bubble, and makes one.
func Run(t *testing.T, r Retrier, seed uint64) (s Storm) {
	synctest.Test(t, func(*testing.T) {
		w := &world{retrier: r, seen: map[time.Duration]int{}, failed: map[time.Duration]int{}}
		s = w.run(rand.New(rand.NewPCG(seed, 3)))
	})
	return s
}

type world struct {
	retrier Retrier
	begin   time.Time

	mu     sync.Mutex
	seen   map[time.Duration]int // what the backend gets, by half second
	failed map[time.Duration]int // calls that failed, by when they began
}

func (w *world) run(random *rand.Rand) Storm {
	handler := w.backend
	var conn *grpc.ClientConn
	for range 3 {
		server := memory.Serve(handler)
		defer server.Close()
		conn = server.Dial(w.retrier.Dial()...)
		handler = w.relay(conn)
	}
	time.Sleep(time.Second)
	w.begin = time.Now()
	w.load(conn, random)
	return w.result()
}

// backend is the last handler.
func (w *world) backend(context.Context, uint64) error {
	at := time.Since(w.begin)
	w.mu.Lock()
	w.seen[at/half]++
	w.mu.Unlock()
	time.Sleep(work)
	if at >= healthy && at < healthy+failing {
		return status.Error(codes.Unavailable, "unwell")
	}
	return nil
}

// relay is a handler that calls the next one.
func (w *world) relay(next *grpc.ClientConn) memory.Handler {
	return func(ctx context.Context, in uint64) error {
		err := memory.Call(ctx, next, in)
		if err != nil && w.retrier.Returns != nil {
			return w.retrier.Returns(err)
		}
		return err
	}
}

func (w *world) load(conn *grpc.ClientConn, random *rand.Rand) {
	var all sync.WaitGroup
	const apart = time.Second / perSecond
	for i := range int((healthy + failing + after) / apart) {
		at := time.Duration(i)*apart + time.Duration(random.Int64N(int64(apart)))
		time.Sleep(time.Until(w.begin.Add(at)))
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := memory.Call(ctx, conn, 0); err != nil {
				w.mu.Lock()
				w.failed[at/bin]++
				w.mu.Unlock()
			}
		})
	}
	all.Wait()
}

func (w *world) result() (s Storm) {
	for at := healthy; at < healthy+failing; at += half {
		n := float64(w.seen[at/half])
		s.Average += n / (perSecond * failing.Seconds())
		s.Worst = max(s.Worst, n/(perSecond*half.Seconds()))
	}
	for at := range w.failed {
		if at *= bin; at >= healthy+failing {
			s.Recovered = max(s.Recovered, (at + bin - healthy - failing).Seconds())
		}
	}
	return s
}
