package interceptors_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// A hostileAnswer is what a server says that no server should say.
type hostileAnswer struct {
	name   string
	script func(s rawStream)
	// attempts is how often a Retry of three attempts may send the RPC; 0: what
	// the status says, which is three for UNAVAILABLE and one for all others.
	attempts int
	// unsteady says that gRPC itself sees now one end, now another.
	unsteady bool
}

// fails is a status that every server may send.
func fails(code codes.Code, fields ...string) func(s rawStream) {
	return func(s rawStream) {
		s.only(append([]string{"grpc-status", strconv.Itoa(int(code)), "grpc-message", "no"}, fields...)...)
	}
}

// details encodes a status with these details as a header field.
func details(code codes.Code, of ...*anypb.Any) string {
	text, _ := proto.Marshal(&spb.Status{Code: int32(code), Message: "no", Details: of})
	return base64.RawStdEncoding.EncodeToString(text)
}

// retryInfoOf is a RetryInfo with this delay, which need not be valid.
func retryInfoOf(seconds int64, nanos int32) *anypb.Any {
	info, _ := anypb.New(&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: seconds, Nanos: nanos}})
	return info
}

// Statuses with odd details, and odd words about coming back.
func hostileStatuses() []hostileAnswer {
	const (
		key   = "grpc-status-details-bin"
		never = 1
	)
	retryInfo := retryInfoOf(0, 0).GetTypeUrl()
	garbage := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	unavailable := func(of ...*anypb.Any) func(s rawStream) {
		return fails(codes.Unavailable, key, details(codes.Unavailable, of...))
	}
	all := []hostileAnswer{
		{name: "details that are not base64", script: fails(codes.Unavailable, key, "!!! no !!!")},
		{name: "details that are no message", script: fails(codes.Unavailable, key, base64.RawStdEncoding.EncodeToString(garbage))},
		{name: "empty details", script: fails(codes.Unavailable, key, "")},
		{name: "details of another code", script: fails(codes.Unavailable, key, details(codes.NotFound))},
		{name: "details that say OK", script: fails(codes.Unavailable, key, details(codes.OK))},
		{name: "details of an unknown type", script: unavailable(&anypb.Any{TypeUrl: "type.example/no.Such", Value: garbage})},
		{name: "details without a type", script: unavailable(&anypb.Any{Value: garbage})},
		{name: "a RetryInfo that is none", script: unavailable(&anypb.Any{TypeUrl: retryInfo, Value: garbage})},
		{name: "a RetryInfo cut short", script: unavailable(&anypb.Any{TypeUrl: retryInfo, Value: []byte{0x0a, 0x7f, 0x08}})},
		{name: "a RetryInfo that is another message", script: unavailable(&anypb.Any{TypeUrl: "type.googleapis.com/google.rpc.ErrorInfo", Value: retryInfoOf(1, 0).GetValue()})},
		{name: "a RetryInfo without a delay", script: unavailable(&anypb.Any{TypeUrl: retryInfo})},
		{name: "a RetryInfo of 10^18 s", script: unavailable(retryInfoOf(1e18, 0)), attempts: never},
		{name: "a RetryInfo of -10^18 s", script: unavailable(retryInfoOf(-1e18, 0)), attempts: never},
		{name: "a RetryInfo of the largest number", script: unavailable(retryInfoOf(math.MaxInt64, math.MaxInt32)), attempts: never},
		{name: "a RetryInfo of mixed signs", script: unavailable(retryInfoOf(1, -1)), attempts: never},
		{name: "a RetryInfo of too many nanoseconds", script: unavailable(retryInfoOf(0, math.MaxInt32)), attempts: never},
		{name: "a thousand RetryInfos", script: unavailable(slices.Repeat([]*anypb.Any{retryInfoOf(-1, 0)}, 1000)...), attempts: never},
	}
	for _, pushback := range []string{"-1", "-9223372036854775808", "9223372036854775807", "1e18", "NaN", "Inf", "0x10", "1_000", "", " ", "٣", strings.Repeat("9", 10_000)} {
		all = append(all, hostileAnswer{
			name: fmt.Sprintf("a pushback of %.20q", pushback), script: fails(codes.Unavailable, pushbackKey, pushback), attempts: never,
		})
	}
	return append(all,
		hostileAnswer{
			name: "a thousand pushbacks", attempts: never,
			script: fails(codes.Unavailable, slices.Repeat([]string{pushbackKey, "0"}, 1000)...),
		},
		hostileAnswer{name: "a code that does not exist", script: fails(99)},
		hostileAnswer{name: "a code that is no number", script: func(s rawStream) { s.only("grpc-status", "abc") }},
		hostileAnswer{name: "a negative code", script: func(s rawStream) { s.only("grpc-status", "-14") }},
		hostileAnswer{name: "a code beyond all numbers", script: func(s rawStream) { s.only("grpc-status", strings.Repeat("9", 1000)) }},
		hostileAnswer{name: "a text that is not UTF-8", script: fails(codes.NotFound, "grpc-message", "%ff%fe%")},
		hostileAnswer{name: "a text of 60 KB", script: fails(codes.NotFound, "x-text", strings.Repeat("x", 10_000), "grpc-message", strings.Repeat("x", 50_000))},
	)
}

// Frames in an order, or of a form, that no server should send.
func hostileFrames() []hostileAnswer {
	ok := []string{"grpc-status", "0"}
	answer, _ := proto.Marshal(&response{Payload: []byte("payload")})
	truncated := message(answer)[:len(message(answer))-3]
	return []hostileAnswer{
		{name: "trailers, then a message", script: func(s rawStream) { s.only("grpc-status", "5"); s.data(true, message(answer)) }},
		{name: "trailers twice", script: func(s rawStream) { s.begin(); s.trailers("grpc-status", "5"); s.trailers(ok...) }},
		{name: "a message before the headers", script: func(s rawStream) { s.data(false, message(answer)); s.trailers(ok...) }},
		{name: "headers twice", script: func(s rawStream) { s.begin(); s.begin(); s.trailers(ok...) }},
		{name: "no trailers", script: func(s rawStream) { s.begin(); s.data(true, message(answer)) }},
		{name: "trailers without a status", script: func(s rawStream) { s.begin(); s.trailers("x", "y") }},
		{name: "success without a message", script: func(s rawStream) { s.only(ok...) }},
		{name: "a message cut short", script: func(s rawStream) { s.begin(); s.data(false, truncated); s.trailers(ok...) }},
		{name: "half a prefix", script: func(s rawStream) { s.begin(); s.data(false, []byte{0, 0}); s.trailers(ok...) }},
		{name: "a message of 4 GB", script: func(s rawStream) { s.begin(); s.data(false, []byte{0, 255, 255, 255, 255}); s.trailers(ok...) }},
		{name: "a message that is none", script: func(s rawStream) { s.begin(); s.data(false, message([]byte{0xff})); s.trailers(ok...) }},
		{name: "compressed by nobody", script: func(s rawStream) {
			s.begin()
			s.data(false, append([]byte{1}, message(answer)[1:]...))
			s.trailers(ok...)
		}},
		{name: "not gRPC", script: func(s rawStream) {
			s.headers(false, ":status", "200", "content-type", "text/html")
			s.data(true, []byte("<html>"))
		}},
		{name: "HTTP 503", script: func(s rawStream) { s.headers(true, ":status", "503") }},
		{name: "HTTP without a status", script: func(s rawStream) { s.headers(true, "content-type", "application/grpc") }},
		{name: "HTTP with a status that is no number", script: func(s rawStream) { s.headers(true, ":status", "ok", "content-type", "application/grpc") }},
		{name: "only 1xx", script: func(s rawStream) { s.headers(false, ":status", "103"); s.reset(0) }},
		{name: "metadata that is not base64", script: func(s rawStream) {
			s.headers(false, ":status", "200", "content-type", "application/grpc", "x-bin", "!!!")
			s.trailers("grpc-status", "5")
		}},
		{name: "trailers of 1 MB", script: func(s rawStream) {
			s.begin()
			s.data(false, message(answer))
			s.trailers("grpc-status", "5", "x-text", strings.Repeat("x", longestHeader-1000))
		}},
		{name: "headers beyond the bound", script: func(s rawStream) {
			s.headers(false, ":status", "200", "content-type", "application/grpc", "x-text", strings.Repeat("x", 2*longestHeader))
			s.trailers("grpc-status", "5")
		}},
		{name: "5,000 trailers", script: func(s rawStream) { s.begin(); s.trailers(append(manyFields(5000), "grpc-status", "5")...) }},
		{name: "reset at once", script: func(s rawStream) { s.reset(2) }},
		{name: "reset as if it was not seen", script: func(s rawStream) { s.reset(7) }, attempts: 6, unsteady: true}, // gRPC tries each attempt once more by itself
		{name: "reset after the headers", script: func(s rawStream) { s.begin(); s.reset(0) }},
		{name: "reset with a code that does not exist", script: func(s rawStream) { s.reset(1 << 31) }},
		{name: "a window that overflows", script: func(s rawStream) {
			for range 3 {
				s.conn.write(frameWindow, 0, s.id, binary.BigEndian.AppendUint32(nil, math.MaxInt32))
			}
			s.only("grpc-status", "5")
		}},
		{name: "frames of unknown kinds", script: func(s rawStream) {
			s.conn.write(0xfe, 0xff, s.id, []byte("x"))
			s.conn.write(0xfe, 0xff, 0, []byte("x"))
			s.only("grpc-status", "5")
		}},
	}
}

// longestHeader is how many bytes of header fields a client reads.
const longestHeader = 1 << 20

// hostileClient is a client with everything that a client's stack can have, and
// what its layers count.
type hostileClient struct {
	*world

	server *rawServer
	places *limit.Concurrency
	spans  *spans
}

func newHostileClient(t *testing.T, withStack bool) *hostileClient {
	c := &hostileClient{server: newRawServer(t), places: limit.NewConcurrency(1, limit.Queue{}), spans: newSpans()}
	var stack *interceptors.Stack
	if withStack {
		stack = interceptors.New(
			interceptors.Admit(c.places),
			c.spans.layer(),
			interceptors.Timeout(time.Hour),
			interceptors.Retry(retry.Config{MaxAttempts: 3, Backoff: noDelay, Budget: always}),
			interceptors.InContext(),
			c.spans.layer(),
		)
	}
	c.world = newWorld(t, worldOf{client: stack, dial: []grpc.DialOption{
		grpc.WithMaxHeaderListSize(longestHeader),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.server.DialContext(ctx) }),
	}})
	return c
}

// behaves answers as a server should.
func behaves(s rawStream) {
	answer, _ := proto.Marshal(&response{Payload: []byte("payload")})
	s.begin()
	s.data(false, message(answer))
	s.trailers("grpc-status", "0")
}

// Whatever a server says, the caller gets the status that it would have got
// without a stack; nothing panics or hangs, everything comes back, and the next
// RPC is as good as any.
func TestHostileServer(t *testing.T) {
	answers := append(hostileStatuses(), hostileFrames()...)
	t.Logf("%d things that no server should say, each to all four kinds of RPC", len(answers))
	for _, answer := range answers {
		inBubble(t, answer.name, func(t *testing.T) {
			bare, stacked := newHostileClient(t, false), newHostileClient(t, true)
			for _, k := range kinds {
				want, got := bare.suffers(answer, k), stacked.suffers(answer, k)
				if !proto.Equal(got.Proto(), want.Proto()) && !answer.unsteady {
					t.Errorf("%v: with a stack the caller sees %v, and without it %v", k, got.Proto(), want.Proto())
				}
			}
		})
	}
}

// suffers makes an RPC that is answered so, and returns its status.
func (c *hostileClient) suffers(answer hostileAnswer, k interceptors.Kind) *status.Status {
	c.t.Helper()
	c.server.plays(answer.script)
	r := c.do(c.t.Context(), k, nil)
	if r.panicked != nil || r.exited {
		c.t.Fatalf("%v: the caller saw a panic: %v, %v", k, r.panicked, r.exited)
	}
	if r.took != 0 {
		c.t.Errorf("%v took %v", k, r.took)
	}
	most := answer.attempts
	switch {
	case most != 0:
	case status.Code(r.err) == codes.Unavailable:
		most = 3
	default:
		most = 1
	}
	if n := c.server.streams(); n > most {
		c.t.Errorf("%v: the server saw the RPC %d times, want at most %d", k, n, most)
	}
	if err := c.settle(); err != nil {
		c.t.Errorf("%v: %v", k, err)
	}
	if n := c.places.Stats().InFlight; n != 0 {
		c.t.Errorf("%v: %d places are taken after the end", k, n)
	}
	if started, ended := len(c.spans.recorder.Started()), len(c.spans.recorder.Ended()); started != ended {
		c.t.Errorf("%v: %d spans were started, and %d ended", k, started, ended)
	}
	c.server.plays(behaves)
	if err := c.do(c.t.Context(), k, nil).wants(codes.OK, ""); err != nil {
		c.t.Errorf("%v: the RPC after it: %v", k, err)
	}
	return status.Convert(r.err)
}
