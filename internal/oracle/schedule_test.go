package oracle

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/interceptors"
)

// A schedule is all that decides how a stream goes. It is plain data, decoded
// from a source of small numbers.
type schedule struct {
	kind     interceptors.Kind
	send     []act         // what the caller's sending goroutine does
	recv     []act         // what its receiving goroutine does
	serve    []act         // what the server does
	end      codes.Code    // the status with which it ends, where nothing goes wrong
	faults   []ending      // how the first attempts end instead
	attempts int           // how many attempts the Retry may make
	keep     int           // its ReplayLimit
	wrap     wrap          // what looks at messages inside the Retry
	cancel   time.Duration // when the caller cancels; 0: when all is over

	// Adopted interceptors around the Retry and inside it, which change nothing.
	outside, inside grpc.StreamClientInterceptor
}

// An act is one thing that one side does.
type act struct {
	verb verb
	n    int // milliseconds of a pause, bytes of a message that is sent
}

type verb int

const (
	Pause   verb = iota
	Send         // a message
	Recv         // a message
	Header       // caller: ask for it; server: send it
	Rest         // receive to the end
	Close        // caller: CloseSend
	Trailer      // caller: call it, if this goroutine has seen the end of the stream
	Context      // caller: ask for it
	Echo         // server: answer each message, to the end
)

// An ending is how an attempt ends.
type ending struct {
	way      way
	after    int        // messages and headers that the server has received or sent
	mute     bool       // the server receives only, in place of its steps
	code     codes.Code // if it is by status
	pushback []string
}

type way int

const (
	byStatus way = iota
	notOpen      // an interceptor of the client does not open it
	hanging      // the server sends nothing until a Timeout inside the Retry has passed
	cut          // the network fails
	madeUp       // an interceptor of the client ends it, while gRPC goes on
)

// wrap is what an interceptor of the client, behind the stack, does with
// messages. Before that it checks that they are of the type that was sent.
type wrap int

const (
	notWrapped wrap = iota
	looking
	replacing // each by a copy
)

// hangs is how long a hanging attempt takes.
const hangs = 3 * time.Millisecond

// dice is a source of numbers from 0 to n-1.
type dice func(n int) int

// one is true once in n times; not for a source that gives zeros only.
func (d dice) one(n int) bool { return d(n) == n-1 }

func pick[T any](d dice, from ...T) T { return from[d(len(from))] }

// decode makes a schedule of the numbers that d gives. Zeros make the simplest.
func decode(d dice) schedule {
	s := schedule{kind: pick(d, interceptors.KindBidiStream, interceptors.KindClientStream, interceptors.KindServerStream, interceptors.KindBidiStream)}
	s.attempts = pick(d, 3, 4, 5, 4, 3, 5, 2, 1)
	for range min(pick(d, 0, 1, 2, 1, 2, 1, 2, 1, 3, 5), s.attempts) {
		s.faults = append(s.faults, decodeEnding(d))
	}
	s.send = s.decodeSend(d)
	s.recv = s.decodeRecv(d)
	s.serve = s.decodeServe(d)
	s.end = pick(d, codes.OK, codes.OK, codes.OK, codes.OK, codes.OK, codes.NotFound, codes.Unavailable)
	s.keep = pick(d, 1<<20, interceptors.DefaultReplayLimit)
	if d.one(8) {
		s.keep = pick(d, 200, 0)
	}
	s.wrap = pick(d, notWrapped, looking, replacing)
	if d.one(8) {
		// Between two milliseconds, when nothing moves.
		s.cancel = time.Duration(d(8))*time.Millisecond + time.Millisecond/2
	}
	if d.one(6) {
		s.slowReplay(d)
	}
	return s
}

// slowReplay changes s so that more is sent again than flow control lets through
// at once, to a server that speaks meanwhile.
func (s *schedule) slowReplay(d dice) {
	s.kind, s.keep, s.attempts = interceptors.KindBidiStream, 1<<20, 4
	received := ending{after: 4 + d(4), mute: true, code: codes.Unavailable}
	s.faults = pick(d, []ending{received}, []ending{received, decodeEnding(d)}, []ending{decodeEnding(d), received})
	s.send = nil
	for range 5 + d(4) {
		s.send = append(s.send, decodeBetween(d)...)
		s.send = append(s.send, act{Send, 40000})
	}
	s.send = append(s.send, act{verb: Close})
	s.serve = slices.Repeat([]act{{verb: Recv}}, d(3))
	s.serve = append(s.serve, pick(d, []act{{Echo, 10}}, []act{{Echo, 30000}}, []act{{Send, 10}, {verb: Rest}}, []act{{verb: Header}, {Echo, 10}})...)
	s.recv = pick(d, []act{{verb: Rest}}, []act{{verb: Recv}, {verb: Header}, {verb: Rest}}, s.recv)
}

func decodeEnding(d dice) ending {
	e := ending{way: pick(d, byStatus, byStatus, byStatus, notOpen, hanging, cut, madeUp), after: pick(d, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7, 10)}
	e.mute = d.one(3)
	if e.way == byStatus {
		e.code = pick(d, codes.Unavailable, codes.Unavailable, codes.Unavailable, codes.Unavailable, codes.ResourceExhausted, codes.Internal)
		e.pushback = pick(d, nil, nil, nil, nil, []string{"0"}, []string{"3"})
		if d.one(8) {
			e.pushback = pick(d, []string{"-1"}, []string{"soon"}, []string{"1", "1"})
		}
	}
	return e
}

func (s *schedule) decodeSend(d dice) (acts []act) {
	messages := 1
	if s.clientStreams() {
		messages = d(7)
	}
	for range messages {
		acts = append(acts, decodeBetween(d)...)
		acts = append(acts, act{Send, pick(d, 10, 0, 1, 300, 5000, 40000)})
	}
	acts = append(acts, decodeBetween(d)...)
	if !d.one(8) || !s.clientStreams() {
		acts = append(acts, act{verb: Close})
	}
	if d.one(4) {
		acts = append(acts, act{verb: Trailer})
	}
	return acts
}

func (s *schedule) decodeRecv(d dice) (acts []act) {
	for range d(5) {
		acts = append(acts, decodeBetween(d)...)
		acts = append(acts, act{verb: Recv})
	}
	if d.one(8) {
		return acts // the caller loses interest
	}
	acts = append(acts, act{verb: Rest})
	return append(acts, pick(d, nil, []act{{verb: Trailer}}, []act{{verb: Header}}, []act{{verb: Recv}}, []act{{verb: Context}})...)
}

// decodeBetween returns what the caller does besides sending and receiving.
func decodeBetween(d dice) []act {
	switch n := d(32); {
	case n < 23:
		return nil
	case n < 30:
		return []act{{Pause, 1 + d(5)}}
	case n < 31:
		return []act{{verb: Header}}
	default:
		return []act{{verb: pick(d, Context, Header)}}
	}
}

func (s *schedule) decodeServe(d dice) (acts []act) {
	for range d(2) * d(7) {
		a := act{verb: pick(d, Recv, Recv, Recv, Send, Send, Pause, Header)}
		switch a.verb { //nolint:exhaustive // the others have no number
		case Pause:
			a.n = 1 + d(5)
		case Send:
			a.n = pick(d, 10, 4, 300, 30000)
		}
		if a.verb != Send || s.kind != interceptors.KindClientStream {
			acts = append(acts, a)
		}
	}
	if s.kind != interceptors.KindClientStream {
		return append(acts, pick(d, []act{{Echo, 10}}, []act{{Echo, 30000}}, []act{{verb: Rest}}, []act{{verb: Rest}, {Send, 5}}, nil)...)
	}
	if !d.one(4) {
		acts = append(acts, act{verb: Rest})
	}
	// One response, as it should be; two; none.
	return append(acts, pick(d, []act{{Send, 10}}, []act{{Send, 5000}}, []act{{Send, 10}}, []act{{Send, 10}}, []act{{Send, 10}, {Send, 10}}, nil)...)
}

func (s *schedule) clientStreams() bool { return s.kind != interceptors.KindServerStream }
func (s *schedule) serverStreams() bool { return s.kind != interceptors.KindClientStream }

// ending returns how an attempt ends, counted from 0.
func (s *schedule) ending(attempt int) ending {
	if attempt < len(s.faults) {
		return s.faults[attempt]
	}
	return ending{after: math.MaxInt, code: s.end}
}

// sizes returns the sizes of the messages that the caller sends.
func (s *schedule) sizes() (sizes []int) {
	for _, a := range s.send {
		if a.verb == Send {
			sizes = append(sizes, a.n)
		}
	}
	return sizes
}

// does reports whether the caller does this before it has seen the end.
func (s *schedule) does(v verb) bool {
	does := func(a act) bool { return a.verb == v }
	received := slices.IndexFunc(s.recv, func(a act) bool { return a.verb == Rest })
	if received < 0 {
		received = len(s.recv)
	}
	return slices.ContainsFunc(s.send, does) || slices.ContainsFunc(s.recv[:received], does)
}

// String returns s in a form that can be read.
func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v, %d attempts, keep %d", s.kind, s.attempts, s.keep)
	if s.wrap != notWrapped {
		fmt.Fprintf(&b, ", messages are %s", [...]string{"", "looked at", "replaced"}[s.wrap])
	}
	if s.cancel != 0 {
		fmt.Fprintf(&b, ", cancelled after %v", s.cancel)
	}
	fmt.Fprintf(&b, "\n  sender:   %v\n  receiver: %v\n  server:   %v -> %v", s.send, s.recv, s.serve, s.end)
	for i, f := range s.faults {
		fmt.Fprintf(&b, "\n  attempt %d: %v", i, f)
	}
	return b.String()
}

func (a act) String() string {
	name := [...]string{"pause", "send", "recv", "header", "rest", "close", "trailer", "context", "echo"}[a.verb]
	switch a.verb {
	case Pause:
		return fmt.Sprintf("%s(%dms)", name, a.n)
	case Send:
		return fmt.Sprintf("%s(%d)", name, a.n)
	default:
		return name
	}
}

func (e ending) String() string {
	after := fmt.Sprintf("after %d", e.after)
	if e.mute {
		after = fmt.Sprintf("after %d received", e.after)
	}
	switch e.way {
	case notOpen:
		return "does not open"
	case hanging:
		return "hangs " + after
	case cut:
		return "connection cut " + after
	case madeUp:
		return "ended by an interceptor"
	default:
		return fmt.Sprintf("%v %s, pushback %q", e.code, after, e.pushback)
	}
}
