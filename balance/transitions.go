package balance

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret/internal/misuse"
)

// A Transition says that an endpoint was banned, or is back in use, with the
// evidence that decided. Fields that did not decide are zero.
type Transition struct {
	When     time.Time
	Target   string // the target of the channel; "" for a [Balancer] and a [ClientConn]
	Endpoint string // the address, or the key in a Balancer
	Banned   bool   // banned; false: back in use
	// Cause is "failures" or "latency": what the endpoint was banned for, or what
	// the probe showed that ended the ban.
	Cause string
	// Probe says that the call which decided was a probe: it failed and prolonged
	// the ban, or succeeded and ended it.
	Probe bool
	// Row is how many calls in a row failed, or took far longer than Typical.
	Row int64
	// Failed of Calls is the share of failures that banned, in the window of
	// [Failures].
	Failed, Calls int64
	// BanFor is how long the ban lasts.
	BanFor time.Duration
	// Typical is how long a call to the endpoints of this balancer takes; 0 if
	// that is not known.
	Typical time.Duration
}

// Why returns the evidence in words: "3 failures in a row", "12 of 20 calls
// failed", "3 calls in a row took far longer than 12ms", "the probe failed".
func (t Transition) Why() string {
	switch {
	case !t.Banned:
		return "the probe succeeded"
	case t.Probe && t.Cause == causeLatency:
		return fmt.Sprintf("the probe took far longer than %v", t.Typical)
	case t.Probe:
		return "the probe failed"
	case t.Cause == causeLatency:
		return fmt.Sprintf("%d calls in a row took far longer than %v", t.Row, t.Typical)
	case t.Row > 0:
		return fmt.Sprintf("%d failures in a row", t.Row)
	default:
		return fmt.Sprintf("%d of %d calls failed", t.Failed, t.Calls)
	}
}

// The causes of transitions.
const (
	causeFailures = "failures"
	causeLatency  = "latency"
)

// watchers are the functions that Watch was given. The slice is replaced, never
// changed, so that transitions are delivered without a lock.
var (
	watchersMu sync.Mutex
	watchers   atomic.Pointer[[]*watcher]
)

type watcher struct{ f func(Transition) }

// Watch calls f for each transition of an endpoint, of all channels, balancers and
// ClientConns of the process, until stop is called. f is called on the goroutine
// of the call that decided, with no lock of this package held; it may be called
// concurrently, and must not wait. stop may be called several times; f may still
// be running when it returns. Watch panics if f is nil.
func Watch(f func(Transition)) (stop func()) {
	if f == nil {
		misuse.Check("balance: Watch", invalid("f", nil, "non-nil"))
	}
	w := &watcher{f}
	changeWatchers(func(all []*watcher) []*watcher { return append(all, w) })
	return sync.OnceFunc(func() {
		changeWatchers(func(all []*watcher) []*watcher {
			return slices.DeleteFunc(all, func(other *watcher) bool { return other == w })
		})
	})
}

// changeWatchers replaces the watchers by what change makes of a copy of them.
func changeWatchers(change func([]*watcher) []*watcher) {
	watchersMu.Lock()
	defer watchersMu.Unlock()
	var all []*watcher
	if old := watchers.Load(); old != nil {
		all = slices.Clone(*old)
	}
	all = change(all)
	watchers.Store(&all)
}

// publish delivers t.
// A watcher that was added or stopped meanwhile may miss t, or get it.
func publish(t Transition) {
	all := watchers.Load()
	if all == nil || len(*all) == 0 {
		return
	}
	t.When = time.Now()
	for _, w := range *all {
		w.f(t)
	}
}

// LogTransitions logs the transitions of all endpoints, until stop is called: a
// ban with level WARN, a return with INFO. nil means slog's default logger.
func LogTransitions(l *slog.Logger) (stop func()) {
	if l == nil {
		l = slog.Default()
	}
	return Watch(func(t Transition) {
		level, message := slog.LevelWarn, "endpoint banned"
		if !t.Banned {
			level, message = slog.LevelInfo, "endpoint back in use"
		}
		l.LogAttrs(context.Background(), level, message, slog.Any("endpoint", t))
	})
}

// LogValue returns the transition as a group, without what is zero.
func (t Transition) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("target", t.Target), slog.String("address", t.Endpoint),
		slog.String("cause", t.Cause), slog.String("why", t.Why()),
		slog.Int64("row", t.Row), slog.Int64("failed", t.Failed), slog.Int64("calls", t.Calls),
		slog.Duration("ban_for", t.BanFor), slog.Duration("typical", t.Typical),
	}
	return slog.GroupValue(slices.DeleteFunc(attrs, func(a slog.Attr) bool {
		switch v := a.Value; v.Kind() {
		case slog.KindString:
			return v.String() == ""
		case slog.KindInt64:
			return v.Int64() == 0
		case slog.KindDuration:
			return v.Duration() == 0
		default:
			return false
		}
	})...)
}
