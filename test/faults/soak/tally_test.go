package soak

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

const (
	perRound    = 1 << 17 // RPCs, at most
	maxAttempts = 3
)

// A fact is something that is known of an attempt, or of an RPC: a bit of its
// word.
type fact uint32

const (
	// The ends of an attempt at the client, or of an RPC at its caller.
	answered fact = 1 << iota
	refused       // it was refused before the wire: the error matches ErrNotReady
	gaveUp        // its context ended first
	failed        // it has another status

	early // of those that were refused: the context ended, in a line or before
	sent  // the client's Retry has made the attempt

	// What the servers say of an attempt.
	seen     // a server has seen it
	again    // and once more
	handled  // a handler has run
	srvOK    // the server answered
	srvError // it did not
)

// outcomes are the facts of which an RPC and an attempt have exactly one.
const outcomes = answered | refused | gaveUp | failed

// outcome returns how an RPC or an attempt with this error ended.
func outcome(ctx context.Context, err error) fact {
	code := interceptors.Code(err)
	switch {
	case err == nil:
		return answered
	case errors.Is(err, turret.ErrNotReady):
		if _, ok := errors.AsType[*turret.Refusal](err); !ok {
			return refused | early
		}
		return refused
	case ctx.Err() != nil || code == codes.DeadlineExceeded || code == codes.Canceled:
		return gaveUp
	default:
		return failed
	}
}

// A tally accounts for every RPC of a round and each of its attempts. Client and
// servers write into one word for each, so that the tally costs them little, and
// its memory is the same after a minute and after a day.
type tally struct {
	round    atomic.Uint64 // that is open: servers note nothing of attempts of others
	rpcs     [perRound]atomic.Uint32
	attempts [perRound * maxAttempts]atomic.Uint32

	running atomic.Int64  // attempts that are in the servers
	arrived atomic.Uint64 // that have been
	// late is how many attempts a server has seen when their round was closed.
	late atomic.Uint64
	// tooMany is how many attempts there were with a number out of bounds.
	tooMany atomic.Uint64
}

// A ticket is the place of an RPC, or of an attempt, in its round.
type ticket struct{ round, place uint64 }

type ticketKey struct{}

// note writes a fact into the word of an attempt, and returns what was there.
func (t *tally) note(k ticket, f fact) fact { return fact(t.attempts[k.place].Or(uint32(f))) }

// close closes the round, for its callers have ended: what reaches a server from
// now on was given up, and is late. What has reached one before is running until
// all is noted of it.
func (t *tally) close() { t.round.Add(1) }

// client is a Layer, to be put inside Retry, that notes each attempt and gives
// it a number that the servers can read.
func (t *tally) client() interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		k, ok := ctx.Value(ticketKey{}).(ticket)
		if !ok || rpc.Attempt >= maxAttempts {
			t.tooMany.Add(1)
			return inner.Call(ctx, rpc)
		}
		k.place = k.place*maxAttempts + uint64(rpc.Attempt)
		t.note(k, sent)
		reply, err := inner.Call(metadata.AppendToOutgoingContext(ctx, "x-attempt", fmt.Sprint(k.round, " ", k.place)), rpc)
		t.note(k, outcome(ctx, err))
		return reply, err
	})
}

// incoming returns the ticket of an attempt, on a server.
func incoming(ctx context.Context) ticket {
	round, place, _ := strings.Cut(strings.Join(metadata.ValueFromIncomingContext(ctx, "x-attempt"), "+"), " ")
	var k ticket
	var err1, err2 error
	k.round, err1 = strconv.ParseUint(round, 10, 64)
	k.place, err2 = strconv.ParseUint(place, 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		panic(err)
	}
	return k
}

// seenKey is the key of an attempt's ticket in the context of its handler, unless
// it came late.
type seenKey struct{}

// serve records the end of an attempt at a server, outside of its stack.
func (t *tally) serve(ctx context.Context, rest func(ctx context.Context) error) {
	t.arrived.Add(1)
	t.running.Add(1) // before it reads the round; closing a round does both in the other order
	defer t.running.Add(-1)
	k := incoming(ctx)
	if k.round != t.round.Load() {
		t.late.Add(1)
		_ = rest(ctx) // not counted
		return
	}
	if t.note(k, seen)&seen != 0 {
		t.note(k, again)
	}
	if rest(context.WithValue(ctx, seenKey{}, k)) == nil {
		t.note(k, srvOK)
	} else {
		t.note(k, srvError)
	}
}

// handle notes that a handler runs.
func (t *tally) handle(ctx context.Context) {
	if k, ok := ctx.Value(seenKey{}).(ticket); ok {
		t.note(k, handled)
	}
}

// A streamIn is a stream with a context of its own.
type streamIn struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // a stream has one
}

func (s streamIn) Context() context.Context { return s.ctx }

// outside are the interceptors outside of a server's stack, and inside those
// between it and the handlers.
func (t *tally) outside() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
			t.serve(ctx, func(ctx context.Context) error {
				reply, err = handler(ctx, req)
				return err
			})
			return reply, err
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			t.serve(stream.Context(), func(ctx context.Context) error {
				err = handler(srv, streamIn{stream, ctx})
				return err
			})
			return err
		}),
	}
}

func (t *tally) inside() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			t.handle(ctx)
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			t.handle(stream.Context())
			return handler(srv, stream)
		}),
	}
}

// sums are a tally's facts, counted.
type sums struct {
	RPCs, Answered, Refused, GaveUp, Failed uint64 // as their callers see them

	Attempts uint64 // that the client sent: what follows adds up to them
	Seen     uint64 // by servers
	Unsent   uint64 // refused before the wire
	Unseen   uint64 // given up before a server saw them
	Early    uint64 // of those unsent: the context ended, in a line or before
	Tried    uint64 // RPCs that have an attempt

	SrvAnswered, SrvRefused, SrvFailed uint64 // what was seen
}

func (s *sums) add(o sums) {
	s.RPCs += o.RPCs
	s.Answered += o.Answered
	s.Refused += o.Refused
	s.GaveUp += o.GaveUp
	s.Failed += o.Failed
	s.Attempts += o.Attempts
	s.Seen += o.Seen
	s.Unsent += o.Unsent
	s.Unseen += o.Unseen
	s.Early += o.Early
	s.Tried += o.Tried
	s.SrvAnswered += o.SrvAnswered
	s.SrvRefused += o.SrvRefused
	s.SrvFailed += o.SrvFailed
}

func (s *sums) String() string {
	return fmt.Sprintf("%d RPCs = %d answered + %d refused + %d given up + %d failed; "+
		"%d attempts sent = %d seen by the servers + %d refused before the wire + %d given up before; "+
		"%d seen = %d answered + %d refused + %d failed",
		s.RPCs, s.Answered, s.Refused, s.GaveUp, s.Failed,
		s.Attempts, s.Seen, s.Unsent, s.Unseen,
		s.Seen, s.SrvAnswered, s.SrvRefused, s.SrvFailed)
}

// settle checks the first n RPCs of a round one by one, and counts. What is wrong
// it tells f. The round must be closed, and everything at rest; only an attempt
// that was given up may still arrive at a server.
func (t *tally) settle(n int, f func(format string, args ...any)) (s sums) {
	for i := range n {
		rpc := fact(t.rpcs[i].Swap(0))
		var words [maxAttempts]fact
		for a := range words {
			words[a] = fact(t.attempts[i*maxAttempts+a].Swap(0))
			if wrong := inspect(words[a]); wrong != "" {
				f("RPC %d, attempt %d: %s (%012b)", i, a, wrong, words[a])
			}
			s.count(words[a])
		}
		if wrong := inspectRPC(rpc, words); wrong != "" {
			f("RPC %d: %s (%04b, attempts %012b)", i, wrong, rpc, words)
		}
		s.countRPC(rpc, words[0])
	}
	return s
}

// inspect returns what is wrong with the word of an attempt.
func inspect(w fact) string {
	o := w & outcomes
	switch {
	case w == 0:
		return "" // it was not needed
	case w&sent == 0:
		return "a server knows of it, and it was not sent"
	case o != answered && o != refused && o != gaveUp && o != failed:
		return "it has not exactly one end"
	case w&again != 0:
		return "it was seen twice"
	case w&seen == 0 && w&(handled|srvOK|srvError) != 0, w&seen != 0 && (w&srvOK != 0) == (w&srvError != 0):
		return "it was seen, and has not exactly one end at the server"
	case o == refused && w&seen != 0:
		return "it was refused before the wire, and a server has seen it"
	case o == answered && w&srvOK == 0:
		return "it was answered, and no server has answered"
	case o == failed && w&srvError == 0:
		return "it failed, and at no server"
	case w&srvOK != 0 && w&handled == 0:
		return "it was answered, and no handler has run"
	}
	return ""
}

// inspectRPC returns what is wrong with the word of an RPC, given those of its
// attempts.
func inspectRPC(rpc fact, attempts [maxAttempts]fact) string {
	var last, all fact
	gap := false
	for i, a := range attempts {
		gap = gap || a != 0 && i > 0 && attempts[i-1] == 0
		if a != 0 {
			last = a
		}
		all |= a
	}
	rpc &= outcomes
	switch {
	case rpc != answered && rpc != refused && rpc != gaveUp && rpc != failed:
		return "it has not exactly one end"
	case gap:
		return "its attempts are not numbered one after another"
	case rpc == answered && last&outcomes != answered:
		return "it was answered, and its last attempt was not"
	case rpc == refused && all&seen != 0:
		return "it was refused unsent, and a server has seen it"
	case rpc == failed && last&outcomes == answered:
		return "it failed, and its last attempt was answered"
	}
	return ""
}

func (s *sums) count(w fact) {
	if w == 0 {
		return
	}
	s.Attempts++
	if w&early != 0 {
		s.Early++
	}
	switch {
	case w&seen != 0:
		s.Seen++
	case w&refused != 0:
		s.Unsent++
	default:
		s.Unseen++
	}
	switch {
	case w&srvOK != 0:
		s.SrvAnswered++
	case w&seen != 0 && w&handled == 0:
		s.SrvRefused++
	case w&seen != 0:
		s.SrvFailed++
	}
}

func (s *sums) countRPC(w, first fact) {
	s.RPCs++
	if first != 0 {
		s.Tried++
	}
	switch w & outcomes {
	case answered:
		s.Answered++
	case refused:
		s.Refused++
	case gaveUp:
		s.GaveUp++
	default: // failed: inspectRPC has seen to it
		s.Failed++
	}
}
