// Package drain stops a gRPC server within a bound, and tells its clients and its
// handlers early enough.
//
// [grpc.Server.GracefulStop] has no bound: one stream that does not end keeps it
// from returning. A [Drainer] stops a server in phases, each of which has one:
//
//	Serving   the server runs
//	LameDuck  health is NOT_SERVING; everything is served, new connections too
//	Stopping  the channels of Notice are closed; GracefulStop runs
//	Cutting   the contexts of streams are cancelled; new RPCs are refused
//	Stopped   Stop has been called
//
// Load balancers learn in LameDuck that they should send RPCs elsewhere. A phase
// ends early when nothing is left to wait for; LameDuck does not, since its end
// is not visible from the server.
package drain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// ErrDraining stands for the reason DRAINING. It is the cause
// ([context.Cause]) of the contexts that Cutting cancels, and is matched by the
// errors of the RPCs that Cutting ends or refuses.
var ErrDraining = errors.New("the server is shutting down")

// ReasonDraining is the reason in the ErrorInfo of RPCs that Cutting ends or
// refuses.
const ReasonDraining = "DRAINING"

const (
	defaultLameDuck = 5 * time.Second
	defaultNotice   = 20 * time.Second
	defaultCut      = 2 * time.Second

	// stopGrace is how long Drain waits after Stop for handlers to see that their
	// connections are gone.
	stopGrace = 50 * time.Millisecond
)

// A Config says how long the phases of a [Drainer] may take. The zero Config is
// a good one for servers behind Kubernetes' services.
type Config struct {
	// Health, if not nil, is shut down first. It is usually gRPC's
	// *health.Server, which then answers NOT_SERVING.
	Health interface{ Shutdown() }
	// LameDuck is how long the server goes on serving everything while load
	// balancers learn of its end. 0 means 5 s; it must not be negative.
	LameDuck time.Duration
	// Notice is how long RPCs may take to end by themselves in Stopping. 0 means
	// 20 s; it must not be negative.
	Notice time.Duration
	// Cut is how long handlers may take to return after their contexts were
	// cancelled. 0 means 2 s; it must not be negative.
	Cut time.Duration
	// OnPhase, if not nil, is called by Drain at the beginning of each phase but
	// Serving, with what runs then. The phase waits for it to return.
	OnPhase func(Phase, Left)
}

// Validate returns a [*turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"LameDuck", c.LameDuck}, {"Notice", c.Notice}, {"Cut", c.Cut}} {
		if f.value < 0 {
			return &turret.FieldError{Package: "drain", Field: f.name, Value: f.value, Bound: "0 (which means the default), or positive"}
		}
	}
	return nil
}

// Left is how many RPCs run.
type Left struct {
	Unary   int // unary RPCs
	Streams int // streams of all kinds
}

// A Report says how a server was stopped.
type Report struct {
	// Took is how long [Drainer.Drain] took.
	Took time.Duration
	// These RPCs ran when Stopping began.
	Told Left
	// These RPCs ran when Cutting began.
	Cut Left
	// The handlers of these RPCs had not returned when Drain did.
	Stuck Left
}

// A Drainer stops one gRPC server: see the package documentation. [New] makes
// one. [Drainer.Layer] must be the outermost layer of the server's stack; RPCs
// that do not pass through it are not counted, and Stop ends them. The methods
// of a Drainer may be called concurrently.
type Drainer struct {
	config Config

	phase   atomic.Int32
	unary   atomic.Int64
	refused atomic.Uint64
	cut     atomic.Uint64 // streams that Cutting ended

	started atomic.Bool
	notice  chan struct{} // closed when Stopping begins
	stopped chan struct{} // closed when report is complete
	report  Report

	mu      sync.Mutex
	streams map[*stream]struct{}
}

// New returns a Drainer. It panics with the error of c.Validate if there is one.
func New(c Config) *Drainer {
	misuse.Check("drain: New", c.Validate())
	c.LameDuck = cmp.Or(c.LameDuck, defaultLameDuck)
	c.Notice = cmp.Or(c.Notice, defaultNotice)
	c.Cut = cmp.Or(c.Cut, defaultCut)
	return &Drainer{
		config:  c,
		notice:  make(chan struct{}),
		stopped: make(chan struct{}),
		streams: map[*stream]struct{}{},
	}
}

// Phase returns the phase that d is in.
func (d *Drainer) Phase() Phase { return Phase(d.phase.Load()) }

// Left returns how many RPCs run.
func (d *Drainer) Left() Left {
	d.mu.Lock()
	defer d.mu.Unlock()
	return Left{Unary: int(d.unary.Load()), Streams: len(d.streams)}
}

// Drain stops server and returns how that went. It takes at most LameDuck +
// Notice + Cut, and 50 ms more if handlers do not return. LameDuck and Stopping
// end at once when ctx is done; Cutting keeps its time, so that RPCs end with a
// status.
//
// Handlers that ignore their contexts go on after Drain has returned, and so do
// the goroutines of GracefulStop and Stop that wait for them. A Drainer drains once: a second call waits
// for the first one and returns its report. It panics if server is nil.
func (d *Drainer) Drain(ctx context.Context, server *grpc.Server) Report {
	return d.drain(ctx, server, nil)
}

// drain is Drain with a channel of which each value ends one phase.
func (d *Drainer) drain(ctx context.Context, server *grpc.Server, next <-chan struct{}) Report {
	if server == nil {
		misuse.Check("drain: Drain", &turret.FieldError{Package: "drain", Field: "server", Value: server, Bound: "non-nil"})
	}
	if !d.started.CompareAndSwap(false, true) {
		<-d.stopped
		return d.report
	}
	defer close(d.stopped)
	start := time.Now()
	d.lameDuck(ctx, next)
	if ended := d.stopping(server); !wait(ctx, d.config.Notice, ended, next) {
		d.cutting()
		// Stop closes connections; what ends with a status must do so before.
		if !wait(context.Background(), d.config.Cut, ended, next) {
			go server.Stop()
			wait(context.Background(), stopGrace, ended, nil)
		}
	}
	d.report.Stuck = d.enter(Stopped)
	d.report.Took = time.Since(start)
	return d.report
}

// lameDuck lets load balancers learn that the server is about to stop.
func (d *Drainer) lameDuck(ctx context.Context, next <-chan struct{}) {
	d.phase.Store(int32(LameDuck))
	if d.config.Health != nil {
		d.config.Health.Shutdown()
	}
	d.enter(LameDuck)
	wait(ctx, d.config.LameDuck, nil, next)
}

// stopping closes the listeners and tells clients and handlers. The channel is
// closed when all connections and handlers have ended.
func (d *Drainer) stopping(server *grpc.Server) (ended <-chan struct{}) {
	d.report.Told = d.enter(Stopping)
	close(d.notice)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.GracefulStop()
	}()
	return done
}

// cutting cancels all streams. A stream that begins later is refused: begin
// looks at the phase under the same lock.
func (d *Drainer) cutting() {
	d.mu.Lock()
	d.phase.Store(int32(Cutting))
	d.report.Cut = Left{Unary: int(d.unary.Load()), Streams: len(d.streams)}
	for s := range d.streams {
		s.cancel(ErrDraining)
	}
	d.mu.Unlock()
	d.call(Cutting, d.report.Cut)
}

// enter begins phase p and returns what runs then.
func (d *Drainer) enter(p Phase) Left {
	d.phase.Store(int32(p))
	left := d.Left()
	d.call(p, left)
	return left
}

func (d *Drainer) call(p Phase, left Left) {
	if d.config.OnPhase != nil {
		d.config.OnPhase(p, left)
	}
}

// wait returns after at most, or earlier when ended is closed, ctx is done or
// next has a value. It reports whether ended is closed.
func wait(ctx context.Context, most time.Duration, ended, next <-chan struct{}) bool {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ended:
	case <-next:
	case <-timer.C:
	case <-ctx.Done():
	}
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// String returns the phase and what runs, in one line.
func (d *Drainer) String() string {
	left := d.Left()
	return fmt.Sprintf("drain: %s, %d unary RPCs and %d streams", d.Phase(), left.Unary, left.Streams)
}

// Describe says in which phase d is, and what runs.
func (d *Drainer) Describe(to *turret.Description) {
	left := d.Left()
	to.Is("drain", "drain")
	to.State("phase", d.Phase().word())
	to.Setting("lame_duck", "s", d.config.LameDuck)
	to.Setting("notice", "s", d.config.Notice)
	to.Setting("cut", "s", d.config.Cut)
	to.Gauge("unary", "{call}", float64(left.Unary))
	to.Gauge("streams", "{call}", float64(left.Streams))
	to.Count("refused", "{call}", ReasonDraining, d.refused.Load())
	to.Count("ended", "{call}", ReasonDraining, d.cut.Load())
}
