package oracle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

type message = wrapperspb.BytesValue

// A performance is one play of a schedule.
type performance struct {
	*schedule

	pair   *wire.Pair
	caller context.Context    //nolint:containedctx // that the stream is opened with
	first  int                // the attempt that the first one is
	place  *limit.Concurrency // the stack's one place; nil on a bare connection

	mu  sync.Mutex
	saw seen
}

// perform plays s, from one of its attempts on, with a Retry or bare.
func perform(t *testing.T, s *schedule, first int, withRetry bool) *seen {
	p := &performance{schedule: s, first: first}
	synctest.Test(t, func(t *testing.T) {
		var dial []grpc.DialOption
		if withRetry {
			dial = p.stack().DialOptions()
		}
		p.pair = wire.Start(t, wire.Config{
			Register: func(r grpc.ServiceRegistrar) { r.RegisterService(p.service(), nil) },
			Dial:     append(dial, grpc.WithChainStreamInterceptor(p.between)),
		})
		p.act(t.Context())
	})
	return &p.saw
}

// stack has one place, which must be free when the caller has seen the end.
func (p *performance) stack() *interceptors.Stack {
	p.place = limit.NewConcurrency(1, limit.Queue{})
	again := retry.Config{MaxAttempts: p.attempts, Backoff: retry.Backoff{Base: -1}, Budget: retry.Unlimited}
	return interceptors.New(
		interceptors.Admit(p.place),
		adopt(p.outside),
		interceptors.Retry(again, interceptors.ReplayLimit(p.keep)),
		adopt(p.inside),
		func(inner interceptors.Service) interceptors.Service {
			return &impatient{inner, interceptors.Timeout(hangs)(inner), p}
		},
	)
}

// impatient has a timeout for attempts that hang.
type impatient struct {
	interceptors.Service

	timed interceptors.Service
	p     *performance
}

func (s *impatient) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	if s.p.ending(rpc.Attempt).way == hanging {
		return s.timed.Call(ctx, rpc)
	}
	return s.Service.Call(ctx, rpc)
}

// act is the caller: two goroutines with one stream.
func (p *performance) act(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.caller = ctx
	if p.cancel != 0 {
		defer time.AfterFunc(p.cancel, cancel).Stop()
	}
	// Ends a run in which a goroutine waits for what does not come.
	defer time.AfterFunc(time.Hour, func() {
		p.saw.stuck = true
		cancel()
	}).Stop()
	p.saw.header, p.saw.trailer = keptHeader, keptTrailer
	desc := &grpc.StreamDesc{ClientStreams: p.clientStreams(), ServerStreams: p.serverStreams()}
	stream, err := p.pair.Conn.NewStream(ctx, desc, "/oracle/Stream",
		grpc.Header(&p.saw.header), grpc.Trailer(&p.saw.trailer), grpc.Peer(&p.saw.peer), grpc.OnFinish(p.finished))
	if err != nil {
		p.ended(err)
	} else {
		var caller sync.WaitGroup
		caller.Go(func() { p.sends(stream) })
		caller.Go(func() { p.receives(stream) })
		caller.Wait()
	}
	cancel()
	synctest.Wait() // for the handlers, and for the end of an abandoned stream
	if p.saw.finishes != 1 && p.place != nil {
		p.wrong("OnFinish ran %d times", p.saw.finishes)
	}
	if p.place != nil && p.place.Stats().InFlight != 0 {
		p.wrong("the stream holds its place after its end")
	}
}

func (p *performance) finished(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.saw.finishes++
	p.saw.finish = err
}

// ended takes note of the end that the receiver sees, nil for io.EOF.
func (p *performance) ended(err error) {
	if err == io.EOF { //nolint:errorlint // gRPC returns it unwrapped
		err = nil
	}
	p.saw.over, p.saw.err = true, err
	if p.place == nil {
		return
	}
	if p.place.Stats().InFlight != 0 {
		p.wrong("the caller saw the end before the stack had returned")
	}
	p.mu.Lock()
	finishes, finish := p.saw.finishes, p.saw.finish
	p.mu.Unlock()
	if finishes != 1 || status.Code(finish) != status.Code(err) && !noResponse(err) {
		p.wrong("OnFinish had run %d times, and said %v, when the caller saw %v", finishes, finish, err)
	}
}

// sends is the sending goroutine. It uses one message again and again, and its
// bytes too.
func (p *performance) sends(stream grpc.ClientStream) {
	m, reused := new(message), []byte(nil)
	dead, sent := false, 0
	for _, a := range p.send {
		switch a.verb {
		case Send:
			if dead {
				continue
			}
			m.Reset()
			reused = append(reused[:0], content(sent, a.n)...)
			m.Value = reused
			sent++
			err := stream.SendMsg(m)
			dead = err == io.EOF //nolint:errorlint // gRPC returns it unwrapped
			if err != nil && !dead {
				p.wrong("SendMsg: %v", err)
			}
			if dead && !p.clientStreams() {
				p.wrong("SendMsg of the only message: %v", err)
			}
		case Close:
			if err := stream.CloseSend(); err != nil {
				p.wrong("CloseSend: %v", err)
			}
		default:
			p.either(stream, a, dead, &p.saw.sender)
		}
	}
}

// receives is the receiving goroutine.
func (p *performance) receives(stream grpc.ClientStream) {
	m := new(message)
	for _, a := range p.recv {
		switch a.verb {
		case Recv:
			p.receive(stream, m)
		case Rest:
			for p.receive(stream, m) {
			}
		default:
			p.either(stream, a, p.saw.over, &p.saw.receiver)
		}
	}
}

// receive receives one message, and reports whether there may be more.
func (p *performance) receive(stream grpc.ClientStream, m *message) bool {
	err := stream.RecvMsg(m)
	switch {
	case err == nil && p.saw.over && p.serverStreams():
		p.wrong("a message after the end")
	case err == nil:
		p.goesOn()
		p.responded(m.Value)
		if !p.serverStreams() && !p.saw.over {
			p.ended(nil)
		}
	case !p.saw.over:
		p.ended(err)
	case err == io.EOF && p.saw.err == nil: //nolint:errorlint // gRPC returns it unwrapped
	case status.Code(err) != status.Code(p.saw.err) && p.place != nil:
		p.wrong("after the end with %v: %v", p.saw.err, err)
	}
	return err == nil
}

// goesOn checks that the stream of which a message has arrived is the one whose
// context the caller has.
func (p *performance) goesOn() {
	p.mu.Lock()
	ctx := p.saw.context
	p.mu.Unlock()
	// That of an attempt which hangs may end while the message is on its way.
	hangs := slices.ContainsFunc(p.faults, func(e ending) bool { return e.way == hanging })
	if ctx != nil && ctx.Err() != nil && p.caller.Err() == nil && p.serverStreams() && !hangs {
		p.wrong("the stream goes on without the context that the caller got")
	}
}

// either does what both goroutines may do.
func (p *performance) either(stream grpc.ClientStream, a act, over bool, saw *metadataSeen) {
	switch a.verb { //nolint:exhaustive // the others are of one goroutine
	case Pause:
		time.Sleep(time.Duration(a.n) * time.Millisecond)
	case Header:
		md, err := stream.Header()
		if err != nil {
			p.wrong("Header: %v", err)
		}
		saw.headers = append(saw.headers, p.metadata(md))
	case Trailer:
		if over {
			saw.trailers = append(saw.trailers, p.metadata(stream.Trailer()))
		}
	case Context:
		ctx := stream.Context()
		p.mu.Lock()
		p.saw.context = ctx //nolint:fatcontext // nothing is nested
		p.mu.Unlock()
	}
}

// content is that of the caller's message number i.
func content(i, size int) []byte {
	c := make([]byte, size)
	for k := range c {
		c[k] = byte(31*i + k)
	}
	return c
}

// between is an interceptor of the client behind the stack: what may be wrong
// with an attempt on this side.
func (p *performance) between(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	attempt := p.open(ctx)
	e := p.ending(attempt)
	if e.way == notOpen {
		return nil, status.Error(codes.Unavailable, "not opened")
	}
	stream, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	if e.way == madeUp {
		stream = &ended{stream}
	}
	if p.wrap != notWrapped {
		stream = &wrapped{stream, p}
	}
	return stream, nil
}

// open counts an attempt, and returns its number in the schedule.
func (p *performance) open(ctx context.Context) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	attempt := p.first + p.saw.opened
	p.saw.opened++
	md, _ := metadata.FromOutgoingContext(ctx)
	want := ""
	if attempt > p.first {
		want = strconv.Itoa(attempt)
	}
	if got := md.Get("grpc-previous-rpc-attempts"); len(got) > 1 || len(got) == 1 && got[0] != want || len(got) == 0 && want != "" {
		p.saw.mistakes = append(p.saw.mistakes, fmt.Sprintf("attempt %d says that there were %q before", attempt, got))
	}
	return attempt
}

// ended is a stream of which an interceptor says that it has ended.
type ended struct{ grpc.ClientStream }

func (*ended) RecvMsg(any) error { return status.Error(codes.Unavailable, "made up") }

// wrapped is a stream of an interceptor that looks at messages.
type wrapped struct {
	grpc.ClientStream

	p *performance
}

func (s *wrapped) SendMsg(m any) error {
	sent, ok := m.(*message)
	if !ok {
		s.p.wrong("an interceptor is given a message of type %T", m)
		return s.ClientStream.SendMsg(m)
	}
	if s.p.wrap == replacing {
		sent = proto.CloneOf(sent)
	}
	return s.ClientStream.SendMsg(sent)
}

// service is the server's.
func (p *performance) service() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "oracle",
		Streams: []grpc.StreamDesc{{
			StreamName:    "Stream",
			ClientStreams: p.clientStreams(),
			ServerStreams: p.serverStreams(),
			Handler: func(_ any, stream grpc.ServerStream) error {
				attempt := p.first + previousAttempts(stream.Context())
				h := &handling{performance: p, stream: stream, served: served{attempt: attempt}, ending: p.ending(attempt)}
				defer h.returned()
				return h.handle()
			},
		}},
	}
}

func previousAttempts(ctx context.Context) int {
	if before := metadata.ValueFromIncomingContext(ctx, "grpc-previous-rpc-attempts"); len(before) == 1 {
		n, _ := strconv.Atoi(before[0])
		return n
	}
	return 0
}

// A handling is one attempt on the server.
type handling struct {
	*performance

	stream grpc.ServerStream
	served served
	ending ending
	steps  int
}

// errDue ends a handling whose ending is due.
var errDue = errors.New("its ending is due")

func (h *handling) handle() error {
	err := h.follow()
	if err == nil || err == errDue { //nolint:errorlint // identity
		err = h.finish()
	}
	return err
}

// follow does the steps of the schedule until the ending is due.
func (h *handling) follow() error {
	acts := h.serve
	if h.ending.mute {
		acts = []act{{verb: Rest}}
	}
	for _, a := range acts {
		var err error
		switch a.verb { //nolint:exhaustive // the others are of the caller
		case Pause:
			err = h.pause(a.n)
		case Recv:
			err = h.receive()
		case Send:
			err = h.respond(a.n)
		case Header:
			err = h.sendHeader()
		case Rest, Echo:
			for err == nil && !h.served.drained {
				if err = h.receive(); err == nil && !h.served.drained && a.verb == Echo {
					err = h.respond(a.n)
				}
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finish is the ending.
func (h *handling) finish() error {
	e := h.ending
	switch {
	case e.way == cut && !h.served.spoke(): // what was sent before may be lost or not
		h.pair.Cut()
		fallthrough
	case e.way == hanging, e.way == madeUp:
		<-h.stream.Context().Done()
		return h.stream.Context().Err()
	}
	md := metadata.Pairs("x-attempt", strconv.Itoa(h.served.attempt), "x-read", strconv.Itoa(h.served.read))
	md.Set("grpc-retry-pushback-ms", e.pushback...)
	h.stream.SetTrailer(md)
	if e.way == cut {
		e.code = codes.Unavailable
	}
	return withDetail(e.code)
}

func (h *handling) due() error {
	if h.steps >= h.ending.after {
		return errDue
	}
	h.steps++
	return nil
}

func (h *handling) pause(ms int) error {
	timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-h.stream.Context().Done():
		return h.stream.Context().Err()
	}
}

func (h *handling) receive() error {
	if err := h.due(); err != nil {
		return err
	}
	m := new(message)
	err := h.stream.RecvMsg(m)
	if err == io.EOF { //nolint:errorlint // gRPC returns it unwrapped
		h.served.drained = true
		return nil
	}
	if err != nil {
		return err
	}
	if sizes := h.sizes(); h.served.read >= len(sizes) {
		h.wrong("attempt %d: the server has received more messages than were sent", h.served.attempt)
	} else if want := content(h.served.read, sizes[h.served.read]); !bytes.Equal(m.Value, want) {
		h.wrong("attempt %d: message %d is %s, want %s", h.served.attempt, h.served.read, short(m.Value), short(want))
	}
	h.served.read++
	return nil
}

func (h *handling) respond(size int) error {
	if err := h.due(); err != nil {
		return err
	}
	h.served.responses++
	return h.stream.SendMsg(&message{Value: response(h.served.attempt, h.served.responses, h.served.read, size)})
}

func (h *handling) sendHeader() error {
	if h.served.spoke() {
		return nil
	}
	if err := h.due(); err != nil {
		return err
	}
	h.served.headed = true
	return h.stream.SendHeader(metadata.Pairs("x-attempt", strconv.Itoa(h.served.attempt), "x-read", strconv.Itoa(h.served.read)))
}

// returned takes note of what this attempt was.
func (h *handling) returned() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.saw.served = append(h.saw.served, h.served)
}
