// Package attempts holds what the attempts of one RPC and the picker that places
// them have to tell each other: which endpoints were tried, whether the RPC is
// a stream, and how a stream really ended.
//
// Code that sends an RPC more than once (Retry, Hedge) makes one [Record] for
// the RPC and calls every attempt with the context of [NewContext], or one
// derived from it. A picker finds the Record with [FromContext].
package attempts

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// remembered is how many endpoints a Record remembers. An RPC that is tried
// more often forgets the oldest: by then everything near was tried anyway.
const remembered = 8

// ErrReplaced is the end of an attempt of a stream that gRPC replaced by
// another one on its own, without giving the reason.
var ErrReplaced = errors.New("attempts: the attempt was replaced by another one")

// A Kind says what a Record's RPC is.
type Kind uint8

// The kinds of RPC.
const (
	// Unary: the time from pick to end is the latency of the endpoint.
	Unary Kind = iota
	// Stream: the time from pick to end is the life of the stream, and the
	// maker of the Record must call End when an attempt is over.
	Stream
)

// A Record is what is known of the attempts of one RPC. Its methods may be
// called concurrently, and on a nil Record, which knows nothing.
type Record struct {
	context.Context // the Record is itself the context that carries it

	kind Kind
	next atomic.Uint32
	ids  [remembered]atomic.Uint64

	mu     sync.Mutex
	waiter func(err error)
}

var expected atomic.Bool

// Expect says that this program has pickers that look for Records. Package
// balance calls it in an init function. Without it, no Records need to be made.
func Expect() { expected.Store(true) }

// Expected reports whether Expect was called.
func Expected() bool { return expected.Load() }

type key struct{}

// NewContext returns a context, derived from ctx, that carries a new Record.
// It makes one allocation.
func NewContext(ctx context.Context, kind Kind) (context.Context, *Record) {
	r := &Record{Context: ctx, kind: kind}
	return r, r
}

// FromContext returns the innermost Record that ctx carries, or nil. It does
// not allocate.
func FromContext(ctx context.Context) *Record {
	r, _ := ctx.Value(key{}).(*Record)
	return r
}

// Value returns the Record itself for FromContext, and else what the context
// below knows.
func (r *Record) Value(k any) any {
	if k == (key{}) {
		return r
	}
	return r.Context.Value(k)
}

// Kind returns the kind of RPC; Unary for a nil Record.
func (r *Record) Kind() Kind {
	if r == nil {
		return Unary
	}
	return r.kind
}

// lastID is the last identity that NewID gave.
var lastID atomic.Uint64

// NewID returns an identity for an endpoint, never 0 and never the same twice
// in a process, so that the records of several channels cannot be confused.
func NewID() uint64 { return lastID.Add(1) }

// Add notes that an attempt is sent to the endpoint with this identity.
func (r *Record) Add(id uint64) {
	if r != nil {
		r.ids[(r.next.Add(1)-1)%remembered].Store(id)
	}
}

// Len returns how many attempts were noted.
func (r *Record) Len() int {
	if r == nil {
		return 0
	}
	return int(r.next.Load())
}

// Has reports whether an attempt was sent to the endpoint with this identity.
// It does not allocate.
func (r *Record) Has(id uint64) bool {
	if r == nil {
		return false
	}
	for i := range min(r.next.Load(), remembered) {
		if r.ids[i].Load() == id {
			return true
		}
	}
	return false
}

// Await calls f with the end of the running attempt of a stream, because the error
// in balancer.DoneInfo may be nil for one that failed: the failure that SendMsg
// noticed is not passed on. f is called once, by End, with no lock held. When
// gRPC replaces an attempt on its own, the earlier f gets ErrReplaced.
func (r *Record) Await(f func(err error)) {
	if earlier := r.swap(f); earlier != nil {
		earlier(ErrReplaced)
	}
}

// End says how the attempt of a stream ended: the error that grpc.OnFinish
// reported. It may be called more than once, and without an Await.
func (r *Record) End(err error) {
	if r == nil {
		return
	}
	if f := r.swap(nil); f != nil {
		f(err)
	}
}

func (r *Record) swap(f func(err error)) (earlier func(err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	earlier, r.waiter = r.waiter, f
	return earlier
}

// In returns a context, derived from ctx, that carries r: for an attempt whose
// context does not come from that of [NewContext].
func (r *Record) In(ctx context.Context) context.Context { return context.WithValue(ctx, key{}, r) }
