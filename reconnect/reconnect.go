package reconnect

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/background"
	"github.com/turret-go/turret/internal/misuse"
)

// ReasonNotConnected is the reason of the refusals of a [Service].
const ReasonNotConnected = "NOT_CONNECTED"

// The errors of a [Service].
var (
	// ErrNotConnected is matched by every refusal, next to the error of the last
	// attempt.
	ErrNotConnected = errors.New("not connected")
	// ErrClosed is the final error of a service that was closed.
	ErrClosed = errors.New("service closed")
)

// A Service is one that is made when it is needed, and made again when it was
// lost; the package says how. It is a [turret.Service]. Use [New] or [With]; its
// methods may be called concurrently.
type Service[Req, Res any] struct {
	maker  maker[Req, Res]
	config Config

	ctx      context.Context // of the attempts; ends with the service
	cancel   context.CancelFunc
	attempts sync.WaitGroup

	mu       sync.Mutex
	current  *connection[Req, Res] // nil while there is none
	attempt  *attempt              // nil unless one is under way
	failures int                   // in a row
	last     error                 // why there was none the last time; nil before the first attempt has failed
	next     time.Time             // no attempt before
	end      error                 // if not nil, there will be none any more
}

// A connection is a service that was made, and the calls that are on it.
type connection[Req, Res any] struct {
	service turret.Service[Req, Res]
	proved  atomic.Bool // a call on it has succeeded

	calls int  // guarded by the Service's mutex
	lost  bool // also: it is closed when there are no calls
}

// New returns a [Service] that maker makes of target. The services that maker
// returns belong to it. It panics if maker is nil or c is invalid.
func New[Target, Req, Res any](maker turret.Maker[Target, Req, Res], target Target, c Config) *Service[Req, Res] {
	if maker == nil {
		misuse.Check("reconnect: New", invalid("maker", nil, "non-nil"))
	}
	return newService("reconnect: New", makerOf(maker, target), c)
}

// With is [New] with the first service, which then need not be made. It panics
// also if s is nil.
func With[Target, Req, Res any](s turret.Service[Req, Res], maker turret.Maker[Target, Req, Res], target Target, c Config) *Service[Req, Res] {
	switch {
	case s == nil:
		misuse.Check("reconnect: With", invalid("service", nil, "non-nil"))
	case maker == nil:
		misuse.Check("reconnect: With", invalid("maker", nil, "non-nil"))
	}
	r := newService("reconnect: With", makerOf(maker, target), c)
	r.current = &connection[Req, Res]{service: s}
	return r
}

func newService[Req, Res any](where string, m maker[Req, Res], c Config) *Service[Req, Res] {
	misuse.Check(where, c.Validate())
	s := &Service[Req, Res]{maker: m, config: c}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Ready waits until the service is connected and what it is connected to is
// ready. It makes attempts, and waits for the pauses between them, until ctx ends;
// its error then matches ctx's, turret.ErrNotReady, and that of the last attempt.
// With a ctx that is done it begins an attempt, if one is due, and does not wait
// for it. It fails for good after Close, and when the maker has.
func (s *Service[Req, Res]) Ready(ctx context.Context) error {
	for {
		way, err := s.way()
		if err != nil {
			return err
		}
		if way.to != nil {
			err := way.to.service.Ready(ctx)
			if !turret.IsFinal(err) {
				return err
			}
			s.lose(way.to, err)
			continue
		}
		if !s.waitFor(ctx, way) {
			return turret.NotReady(fmt.Errorf("%w: %w", ctx.Err(), s.notConnected()))
		}
	}
}

// Call calls the service that there is, or the one that an attempt which is under
// way, or due, makes. Between two attempts it is refused.
func (s *Service[Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	c, err := s.enter(ctx)
	if err != nil {
		return res, err
	}
	defer s.leave(c)
	res, err = c.service.Call(ctx, req)
	if err == nil && !c.proved.Load() {
		c.proved.Store(true)
	}
	return res, err
}

// enter returns the connection for a call, which has to leave it.
func (s *Service[Req, Res]) enter(ctx context.Context) (*connection[Req, Res], error) {
	for {
		way, err := s.way()
		switch {
		case err != nil:
			return nil, refuse(notConnected(err), 0)
		case way.to != nil:
			if err := turret.ReadyNow(way.to.service); turret.IsFinal(err) {
				s.lose(way.to, err)
			} else if s.hold(way.to) {
				return way.to, nil
			}
		case way.by == nil:
			return nil, refuse(s.notConnected(), way.in)
		case !s.waitFor(ctx, way):
			return nil, turret.NotReady(fmt.Errorf("%w: %w", ctx.Err(), s.notConnected()))
		case way.by.err != nil:
			return nil, refuse(notConnected(way.by.err), way.by.pause)
		}
	}
}

// hold counts a call on c, unless c was lost in the meantime.
func (s *Service[Req, Res]) hold(c *connection[Req, Res]) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.lost {
		return false
	}
	c.calls++
	return true
}

// leave ends a call on c.
func (s *Service[Req, Res]) leave(c *connection[Req, Res]) {
	s.mu.Lock()
	c.calls--
	idle := c.lost && c.calls == 0
	s.mu.Unlock()
	if idle {
		c.close()
	}
}

// Close ends the attempt that is under way, waits until it has ended, and gives
// up the service that there is. Callers that wait, and later ones, get [ErrClosed]; calls
// that are in flight go on. Closing again does nothing.
func (s *Service[Req, Res]) Close() {
	s.mu.Lock()
	if s.end == nil {
		s.end = ErrClosed
	}
	c := s.current
	s.current = nil
	idle := c != nil && c.abandon()
	s.mu.Unlock()
	s.cancel()
	s.attempts.Wait()
	if idle {
		c.close()
	}
}

// abandon marks c as lost, and reports whether no call is on it. It requires the
// Service's mutex.
func (c *connection[Req, Res]) abandon() bool {
	c.lost = true
	return c.calls == 0
}

// close closes the service, if it can be.
func (c *connection[Req, Res]) close() { closeService(c.service) }

func closeService(s any) { background.Close("reconnect", s) }

// String says whether the service is connected, and why not.
func (s *Service[Req, Res]) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.end != nil:
		return fmt.Sprintf("reconnect: not connected: %v", s.end)
	case s.current != nil:
		return "reconnect: connected"
	case s.last != nil:
		return fmt.Sprintf("reconnect: not connected, %d failures: %v", s.failures, s.last)
	default:
		return "reconnect: not connected yet"
	}
}

// refuse returns the refusal of a call.
func refuse(why error, retryAfter time.Duration) error {
	return &turret.Refusal{
		Kind: turret.KindUnavailable, Layer: "reconnect", Reason: ReasonNotConnected,
		RetryAfter: max(retryAfter, 0), Err: why,
	}
}

// notConnected says why there is no service now.
func (s *Service[Req, Res]) notConnected() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return notConnected(s.last)
}

func notConnected(why error) error {
	if why == nil {
		return ErrNotConnected
	}
	return fmt.Errorf("%w: %w", ErrNotConnected, why)
}
