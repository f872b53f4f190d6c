package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/echo"
	"github.com/turret-go/turret/internal/wire"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// This file makes RPCs of any kind over a connection, so that one test runs over
// the four of them.

// kinds are the four kinds, in the order in which tests run over them, and
// streamKinds the three of them that are streams.
var (
	kinds = []interceptors.Kind{
		interceptors.KindUnary, interceptors.KindClientStream, interceptors.KindServerStream, interceptors.KindBidiStream,
	}
	streamKinds = kinds[1:]
)

// method is the method of the EchoService that has this kind.
func method(k interceptors.Kind) string {
	return [...]string{
		interceptors.KindUnary:        echov1.EchoService_Unary_FullMethodName,
		interceptors.KindClientStream: echov1.EchoService_ClientStream_FullMethodName,
		interceptors.KindServerStream: echov1.EchoService_ServerStream_FullMethodName,
		interceptors.KindBidiStream:   echov1.EchoService_BidiStream_FullMethodName,
	}[k]
}

func clientStreams(k interceptors.Kind) bool {
	return k == interceptors.KindClientStream || k == interceptors.KindBidiStream
}

func serverStreams(k interceptors.Kind) bool {
	return k == interceptors.KindServerStream || k == interceptors.KindBidiStream
}

// sendEnded is what SendMsg returns after the end of a stream: RecvMsg will say
// how it ended, and generated code of a method with one request goes on to that
// only after a success.
func sendEnded(k interceptors.Kind) error {
	if clientStreams(k) {
		return io.EOF
	}
	return nil
}

// The requests of the four methods are the same on the wire, and so are the
// responses: those of Unary serve all.
type (
	request  = echov1.UnaryRequest
	response = echov1.UnaryResponse
)

// patience bounds every RPC of a test, so that a fault shows as a deadline and
// not as a test that hangs.
const patience = 30 * time.Second

// A world is a server and a client of it. One innermost interceptor of the
// server, behind its stack, holds handlers; one in front of it keeps a panic
// from ending the process.
type world struct {
	*wire.Pair

	t      testing.TB
	bubble bool
	server serverEnds
}

// worldOf says what a world has besides the EchoService.
type worldOf struct {
	client, server *interceptors.Stack // nil: no stack
	dial           []grpc.DialOption   // in front of the client's stack
	behindClient   []grpc.DialOption
	tcp            bool // and outside of a bubble
}

func newWorld(t testing.TB, c worldOf) *world {
	t.Helper()
	w := &world{t: t, bubble: !c.tcp, server: serverEnds{held: make(chan *heldHandler), panics: make(chan any, 16)}}
	server := []grpc.ServerOption{
		grpc.ChainUnaryInterceptor(w.server.frontUnary), grpc.ChainStreamInterceptor(w.server.frontStream),
	}
	if c.server != nil {
		server = append(server, c.server.ServerOptions()...)
	}
	server = append(server, grpc.ChainUnaryInterceptor(w.server.backUnary), grpc.ChainStreamInterceptor(w.server.backStream))
	dial := c.dial
	if c.client != nil {
		dial = append(slices.Clip(dial), c.client.DialOptions()...)
	}
	w.Pair = wire.Start(t, wire.Config{
		Register: func(s grpc.ServiceRegistrar) { echov1.RegisterEchoServiceServer(s, echo.New("one")) },
		Server:   server,
		Dial:     append(slices.Clip(dial), c.behindClient...),
		TCP:      c.tcp,
	})
	return w
}

// An rpc is one that runs, or has run, on a goroutine of its own. What it saw may
// be read when done is closed.
type rpc struct {
	done chan struct{}

	responses       []*response
	header, trailer metadata.MD
	err             error
	panicked        any           // the value of a panic that reached the caller
	exited          bool          // the caller's goroutine was ended by runtime.Goexit
	took            time.Duration // from the start to the end
}

// do makes an RPC and waits for its end.
func (w *world) do(ctx context.Context, k interceptors.Kind, p *echov1.Plan, opts ...grpc.CallOption) *rpc {
	r := w.start(ctx, k, p, opts...)
	<-r.done
	return r
}

// start starts an RPC that sends one request with this plan, half-closes, and
// reads to the end.
func (w *world) start(ctx context.Context, k interceptors.Kind, p *echov1.Plan, opts ...grpc.CallOption) *rpc {
	r := &rpc{done: make(chan struct{}), exited: true}
	go func() {
		began := time.Now()
		defer close(r.done)
		defer func() { r.took = time.Since(began) }()
		defer func() { r.panicked = recover() }()
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		req := &request{Plan: p, Payload: []byte("payload")}
		if k == interceptors.KindUnary {
			r.unary(ctx, w, req, opts)
		} else {
			r.stream(ctx, w, k, req, opts)
		}
		r.exited = false
	}()
	return r
}

func (r *rpc) unary(ctx context.Context, w *world, req *request, opts []grpc.CallOption) {
	res := new(response)
	opts = append([]grpc.CallOption{grpc.Header(&r.header), grpc.Trailer(&r.trailer)}, opts...)
	if r.err = w.Conn.Invoke(ctx, method(interceptors.KindUnary), req, res, opts...); r.err == nil {
		r.responses = append(r.responses, res)
	}
}

func (r *rpc) stream(ctx context.Context, w *world, k interceptors.Kind, req *request, opts []grpc.CallOption) {
	s, err := w.open(ctx, k, opts...)
	if err != nil {
		r.err = err
		return
	}
	if err := s.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
		r.err = err
		return
	}
	if r.err = s.CloseSend(); r.err != nil {
		return
	}
	r.responses, r.err = receive(s, k)
	r.header, _ = s.Header()
	r.trailer = s.Trailer()
}

// open opens a stream and sends nothing.
func (w *world) open(ctx context.Context, k interceptors.Kind, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ClientStreams: clientStreams(k), ServerStreams: serverStreams(k)}
	return w.Conn.NewStream(ctx, desc, method(k), opts...)
}

// unsendable returns a context with metadata that gRPC does not send: an RPC with
// it ends before it has begun, with INTERNAL.
func unsendable(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "not a key", "")
}

// receive reads s to its end. A success is nil.
func receive(s grpc.ClientStream, k interceptors.Kind) (responses []*response, err error) {
	for {
		res := new(response)
		switch err := s.RecvMsg(res); {
		case errors.Is(err, io.EOF):
			return responses, nil
		case err != nil:
			return responses, err
		}
		responses = append(responses, res)
		if !serverStreams(k) {
			return responses, nil
		}
	}
}

// wants returns an error unless r ended with this code and with this reason in
// its ErrorInfo; empty: any, or none. An RPC that succeeds has one response.
func (r *rpc) wants(code codes.Code, reason string) error {
	info := &errdetails.ErrorInfo{}
	for _, d := range status.Convert(r.err).Details() {
		if d, ok := d.(*errdetails.ErrorInfo); ok {
			info = d
		}
	}
	switch {
	case r.panicked != nil:
		return fmt.Errorf("panicked with %v, want code %v", r.panicked, code)
	case r.exited:
		return fmt.Errorf("the caller's goroutine was ended, want code %v", code)
	case status.Code(r.err) != code, reason != "" && info.GetReason() != reason:
		return fmt.Errorf("ended with %v (reason %q), want code %v (reason %q)", status.Convert(r.err), info.GetReason(), code, reason)
	case r.err == nil && len(r.responses) != 1:
		return fmt.Errorf("ended with %d responses, want 1", len(r.responses))
	}
	return nil
}

// inBubble runs f as a subtest in a bubble of its own.
func inBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// settle waits until nothing of an RPC runs any more, on either side, and
// returns an error if something stays.
func (w *world) settle() error {
	if w.bubble {
		synctest.Wait()
	}
	var left []string
	for deadline := time.Now().Add(patience); ; runtime.Gosched() {
		if left = rpcGoroutines(w.bubble); len(left) == 0 {
			return nil
		}
		if w.bubble || time.Now().After(deadline) {
			return fmt.Errorf("%d goroutines of RPCs are left, the first of them:\n%s", len(left), left[0])
		}
	}
}

// rpcGoroutines returns the stacks of the goroutines in which an RPC runs: those
// of streams on the client, and those of handlers.
func rpcGoroutines(bubble bool) []string {
	return slices.DeleteFunc(goroutines(bubble), func(g string) bool {
		return !strings.Contains(g, "turret/interceptors.") && !strings.Contains(g, "grpc.newClientStream") && !strings.Contains(g, "grpc.(*Server).handleStream")
	})
}

// goroutines returns the stacks of all goroutines. In a bubble they are those of
// bubbles: what an earlier test has left outside of them may not have ended
// yet, and nothing waits for that.
func goroutines(bubble bool) []string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	all := strings.Split(string(stacks), "\n\n")
	if !bubble {
		return all
	}
	return slices.DeleteFunc(all, func(g string) bool {
		head, _, _ := strings.Cut(g, "\n")
		return !strings.Contains(head, ", synctest bubble ")
	})
}

// What settle looks for is there while an RPC runs, and gone afterwards.
func TestSettle(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			w := newWorld(t, worldOf{client: interceptors.New(interceptors.InContext())})
			release, err := w.hold(t.Context(), k)
			if err != nil {
				t.Fatal(err)
			}
			found := strings.Join(rpcGoroutines(true), "\n")
			for _, want := range []string{"interceptors.(*streamClient)", "grpc.newClientStream", "grpc.(*Server).handleStream"} {
				if !strings.Contains(found, want) {
					t.Errorf("no goroutine runs %s in:\n%s", want, found)
				}
			}
			if err := errors.Join(release(), w.settle()); err != nil {
				t.Error(err)
			}
		})
	}
}
