package interceptors_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
)

// A hostileRequest is what a client sends that no client should.
type hostileRequest struct {
	name string
	// extra are header fields besides those of an ordinary RPC. A field that is
	// there already takes its place.
	extra []string
	// body writes what follows the headers; nil: one message, and the end.
	body func(s rawStream)
	// succeeds says that the handler is to run as if nothing were odd.
	succeeds bool
	// whole says that the request is good so far when it goes wrong: the handler may
	// have succeeded by then.
	whole bool
	// abandons says that the client goes away: nothing will be answered.
	abandons bool
}

func hostileRequests() []hostileRequest {
	asked, _ := proto.Marshal(&request{Payload: []byte("payload")})
	good := message(asked)
	var all []hostileRequest
	for _, deadline := range []string{"99999999H", "99999999M", "99999999S", "1S"} {
		all = append(all, hostileRequest{name: "a timeout of " + deadline, extra: []string{"grpc-timeout", deadline}, succeeds: true})
	}
	for _, deadline := range []string{"0n", "-1S", "1e9S", "S", "", "1", "99999999999S", "1 S", "٣S", strings.Repeat("9", 10_000) + "S"} {
		all = append(all, hostileRequest{name: fmt.Sprintf("a timeout of %.12q", deadline), extra: []string{"grpc-timeout", deadline}})
	}
	return append(all,
		hostileRequest{name: "5,000 metadata keys", extra: manyFields(5000), succeeds: true},
		hostileRequest{name: "metadata of 1 MB", extra: []string{"x-text", strings.Repeat("x", 1<<20)}, succeeds: true},
		hostileRequest{name: "a trace that is none", extra: []string{"traceparent", "00-zz", "tracestate", strings.Repeat(",=", 1000)}, succeeds: true},
		hostileRequest{name: "a thousand traces", extra: repeated("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", 1000), succeeds: true},
		hostileRequest{name: "baggage of 1 MB", extra: []string{"baggage", strings.Repeat("k=%ff,", 1<<18)}, succeeds: true},
		hostileRequest{name: "previous attempts that are no number", extra: []string{"grpc-previous-rpc-attempts", "-9e99"}, succeeds: true},
		hostileRequest{name: "a pushback from a client", extra: []string{pushbackKey, "-1"}, succeeds: true},
		hostileRequest{name: "metadata that is not base64", extra: []string{"x-bin", "!!!"}},
		hostileRequest{name: "a key in capitals", extra: []string{"X-Key", "y"}},
		hostileRequest{name: "no path", extra: []string{":path", ""}},
		hostileRequest{name: "a path without slashes", extra: []string{":path", "x"}},
		hostileRequest{name: "a path of slashes", extra: []string{":path", "////"}},
		hostileRequest{name: "a path of 100 KB", extra: []string{":path", "/" + strings.Repeat("x", 100<<10)}},
		hostileRequest{name: "not gRPC", extra: []string{"content-type", "text/html"}},
		hostileRequest{name: "GET", extra: []string{":method", "GET"}},
		hostileRequest{name: "compressed by nobody", body: func(s rawStream) { s.data(true, append([]byte{1}, good[1:]...)) }},
		hostileRequest{name: "a message cut short", body: func(s rawStream) { s.data(true, good[:len(good)-3]) }},
		hostileRequest{name: "a message of 4 GB", body: func(s rawStream) { s.data(true, []byte{0, 255, 255, 255, 255}) }},
		hostileRequest{name: "a message that is none", body: func(s rawStream) { s.data(true, message([]byte{0xff})) }},
		hostileRequest{name: "reset at once", body: func(s rawStream) { s.reset(8) }, abandons: true},
		hostileRequest{name: "reset in a message", body: func(s rawStream) { s.data(false, good[:5]); s.reset(8) }, abandons: true},
		hostileRequest{name: "cut in a message", body: func(s rawStream) { s.data(false, good[:5]); _ = s.conn.Close() }, abandons: true},
		hostileRequest{name: "data after the end", body: func(s rawStream) { s.data(true, good); s.data(true, good) }, whole: true},
		hostileRequest{name: "1,000 streams that are reset", body: func(s rawStream) {
			for range 1000 {
				s.reset(8)
				s.id += 2
				s.headers(false, asRPC("/turret.echo.v1.EchoService/BidiStream")...)
			}
			s.reset(8)
		}, abandons: true},
	)
}

// manyFields are n header fields with different names.
func manyFields(n int) (of []string) {
	for i := range n {
		of = append(of, fmt.Sprintf("x-%d", i), "y")
	}
	return of
}

// repeated is a header field n times.
func repeated(key, value string, n int) (of []string) {
	for range n {
		of = append(of, key, value)
	}
	return of
}

// asRPC are the header fields of an RPC, with these besides or instead.
func asRPC(path string, extra ...string) []string {
	of := []string{
		":method", "POST", ":scheme", "http", ":path", path, ":authority", "test",
		"content-type", "application/grpc", "te", "trailers",
	}
	for i := 0; i+1 < len(of); i += 2 {
		for j := 0; j+1 < len(extra); j += 2 {
			if of[i] == extra[j] {
				of[i+1] = extra[j+1]
				extra = append(extra[:j:j], extra[j+2:]...)
				break
			}
		}
	}
	return append(of, extra...)
}

// hostileServer is a server with everything that a server's stack can have, and
// what its layers count.
type hostileServer struct {
	*world

	places *limit.Concurrency
	spans  *spans

	mu    sync.Mutex
	codes []codes.Code // of the RPCs that came as far as the stack
}

func newHostileServer(t *testing.T) *hostileServer {
	s := &hostileServer{places: limit.NewConcurrency(2000, limit.Queue{}), spans: newSpans()}
	s.world = newWorld(t, worldOf{server: interceptors.New(
		interceptors.Recover(),
		s.spans.layer(),
		turret.Wrap(s.watch),
		interceptors.Admit(s.places),
		interceptors.Timeout(time.Minute),
		interceptors.InContext(),
		interceptors.For("/turret.echo.v1.EchoService/*", interceptors.Filter(everybody)),
	)})
	return s
}

func everybody(ctx context.Context, _ *interceptors.RPC) (context.Context, error) { return ctx, nil }

func (s *hostileServer) watch(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
	reply, err := inner.Call(ctx, rpc)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes = append(s.codes, interceptors.Code(err))
	return reply, err
}

// Whatever a client sends, its RPC ends; nothing panics or hangs, everything
// comes back, and others are served.
func TestHostileClient(t *testing.T) {
	requests := hostileRequests()
	t.Logf("%d things that no client should send, each as all four kinds of RPC", len(requests))
	for _, r := range requests {
		inBubble(t, r.name, func(t *testing.T) {
			s := newHostileServer(t)
			for _, k := range kinds {
				s.suffers(r, k)
				s.check(r, k)
			}
		})
	}
}

// suffers sends r as an RPC of this kind, and waits for its end.
func (s *hostileServer) suffers(r hostileRequest, k interceptors.Kind) {
	s.t.Helper()
	conn, err := s.Dial(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	c := &rawConn{Conn: conn}
	var writing sync.WaitGroup
	defer writing.Wait()
	defer func() { _ = c.Close() }()
	began := time.Now()
	_ = c.SetReadDeadline(began.Add(patience))
	_, _ = io.WriteString(c, preface)
	c.write(frameSettings, 0, 0, nil)
	stream := rawStream{c, 1}
	writing.Go(func() { // while the answer is read: the server may say more than the connection holds
		stream.headers(false, asRPC(method(k), r.extra...)...)
		if r.body != nil {
			r.body(stream)
			return
		}
		asked, _ := proto.Marshal(&request{Payload: []byte("payload")})
		stream.data(true, message(asked))
	})
	if r.abandons {
		writing.Wait()
		synctest.Wait() // the server has seen it
		return
	}
	for {
		f, err := c.read()
		if err != nil || !c.answer(f) && (f.kind == frameReset || f.kind <= frameHeaders && f.flags&flagEndStream != 0) {
			break
		}
	}
	if took := time.Since(began); took >= patience {
		s.t.Errorf("%v was not answered in %v", k, took)
	}
}

// check checks what is left of the RPC.
func (s *hostileServer) check(r hostileRequest, k interceptors.Kind) {
	s.t.Helper()
	synctest.Wait()
	s.mu.Lock()
	seen := s.codes
	s.codes = nil
	s.mu.Unlock()
	for _, code := range seen {
		if (code == codes.OK) != r.succeeds && !r.whole {
			s.t.Errorf("%v: the server's stack saw the end of the RPC as %v", k, code)
		}
	}
	if r.succeeds && len(seen) != 1 {
		s.t.Errorf("%v: %d RPCs came as far as the stack, want 1", k, len(seen))
	}
	if err := s.settle(); err != nil {
		s.t.Errorf("%v: %v", k, err)
	}
	if n := s.places.Stats().InFlight; n != 0 {
		s.t.Errorf("%v: %d places are taken after the end", k, n)
	}
	if started, ended := len(s.spans.recorder.Started()), len(s.spans.recorder.Ended()); started != ended {
		s.t.Errorf("%v: %d spans were started, and %d ended", k, started, ended)
	}
	if err := s.do(s.t.Context(), k, nil).wants(codes.OK, ""); err != nil {
		s.t.Errorf("%v of somebody else: %v", k, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes = nil
}
