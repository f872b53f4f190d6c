package interceptors_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// The retry of streams where it depends on which method returns first. What
// random orders can show is in internal/oracle.

const bidi = interceptors.KindBidiStream

// onFakes runs f as a test in a bubble, on a fake connection behind a
// Retry.
func onFakes(t *testing.T, name string, f func(t *testing.T, c *fakes)) {
	t.Helper()
	inBubble(t, name, func(t *testing.T) { f(t, newFakes(t, again())) })
}

// An attempt that fails while a method of the caller runs on it is not replaced
// until the method has returned: it may return something.
func TestMethodsInFlight(t *testing.T) {
	onFakes(t, "RecvMsg returns a message", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		received := recvAsync(s)
		a.finish(errDown) // a deadline inside the Retry, say
		c.noMore()
		a.recv("hello", nil)
		if received.running() || received.value != "hello" || received.err != nil {
			t.Errorf("RecvMsg: %q, %v", received.value, received.err)
		}
		c.noMore()
		if err := s.RecvMsg(new(response)); status.Code(err) != codes.Unavailable {
			t.Errorf("RecvMsg: %v, want the attempt's own status", err)
		}
	})
	onFakes(t, "RecvMsg returns an error", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		received := recvAsync(s)
		a.finish(errDown)
		a.recv("", errDown)
		c.next().recv("hello", nil)
		if received.running() || received.value != "hello" || received.err != nil {
			t.Errorf("RecvMsg: %q, %v", received.value, received.err)
		}
	})
	onFakes(t, "Header returns one", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		header := headerAsync(s)
		a.finish(errDown)
		c.noMore()
		a.header(metadata.Pairs("from", "first"))
		if header.running() || len(header.value["from"]) != 1 {
			t.Errorf("Header: %v, %v", header.value, header.err)
		}
		c.noMore()
	})
	onFakes(t, "Header returns none, and RecvMsg is about to tell why", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		received := recvAsync(s)
		header := headerAsync(s)
		a.header(nil)
		c.noMore()
		a.finish(errDown)
		a.recv("", errDown)
		b := c.next()
		b.header(metadata.Pairs("from", "second"))
		if header.running() || len(header.value["from"]) != 1 {
			t.Errorf("Header: %v, %v", header.value, header.err)
		}
		b.recv("hello", nil)
		if received.running() || received.value != "hello" || received.err != nil {
			t.Errorf("RecvMsg: %q, %v", received.value, received.err)
		}
	})
	onFakes(t, "Header returns none, and another Header is about to report the end", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		first, second := headerAsync(s), headerAsync(s)
		a.header(nil)
		c.noMore()
		a.finish(errDown)
		a.header(nil)
		b := c.next()
		b.header(metadata.Pairs("from", "second"))
		b.header(metadata.Pairs("from", "second"))
		if first.running() || second.running() || len(first.value["from"]) != 1 || len(second.value["from"]) != 1 {
			t.Errorf("Header: %v and %v", first.value, second.value)
		}
	})
	onFakes(t, "SendMsg succeeds", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		sent := sendAsync(s)
		a.finish(errDown)
		c.noMore()
		a.send(nil)
		if sent.running() || sent.err != nil {
			t.Errorf("SendMsg: %v", sent.err)
		}
		b := c.next()
		b.send(nil) // again
		if n, _ := b.got(); n != 1 {
			t.Errorf("the second attempt got %d messages, want 1", n)
		}
	})
}

// TestEndIsAwaited has RecvMsg show the end of a stream while Header, which has noticed
// it first, is about to report it: what gRPC writes to the caller's variables before it
// reports the end is there when RecvMsg returns.
func TestEndIsAwaited(t *testing.T) {
	var header metadata.MD
	onFakes(t, "committed", func(t *testing.T, c *fakes) {
		s := c.open(bidi, grpc.Header(&header))
		a := c.next()
		first := recvAsync(s)
		a.recv("hello", nil)
		asked := headerAsync(s)
		a.answer("Header", answer{before: func() {
			time.Sleep(time.Second)
			a.writeHeader(metadata.Pairs("from", "first"))
			a.report(errDown)
		}})
		received := recvAsync(s)
		a.recv("", errDown)
		if first.running() || !received.running() {
			t.Errorf("RecvMsg: %v, and then %v before the end was reported", first.err, received.err)
		}
		time.Sleep(time.Second)
		if asked.running() || received.running() || status.Code(received.err) != codes.Unavailable || len(header["from"]) != 1 {
			t.Errorf("RecvMsg: %v, with the header %v", received.err, header)
		}
	})
}

// The header that the caller was shown is that of the attempt that counts.
func TestHeaderCommits(t *testing.T) {
	onFakes(t, "asked", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		header := headerAsync(s)
		a.header(metadata.Pairs("from", "first"))
		if header.running() || len(header.value["from"]) != 1 {
			t.Fatalf("Header: %v, %v", header.value, header.err)
		}
		a.finish(errDown)
		c.noMore()
		received := recvAsync(s)
		if received.running() || status.Code(received.err) != codes.Unavailable {
			t.Errorf("RecvMsg: %v, want the attempt's own status", received.err)
		}
	})
	onFakes(t, "asked when there is none", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		header := headerAsync(s)
		a.finish(errDown)
		a.header(nil)
		c.next().header(metadata.Pairs("from", "second"))
		if header.running() || len(header.value["from"]) != 1 || header.value["from"][0] != "second" {
			t.Errorf("Header: %v, %v", header.value, header.err)
		}
	})
}

// io.EOF of SendMsg says that an attempt has ended, but not how.
func TestSendMsgEOF(t *testing.T) {
	onFakes(t, "a RecvMsg that runs knows: an error", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		received, sent := recvAsync(s), sendAsync(s)
		a.send(io.EOF)
		a.idle("Header")
		if !sent.running() {
			t.Fatalf("SendMsg: %v, before the end of the attempt is known", sent.err)
		}
		a.finish(errDown)
		a.recv("", errDown)
		b := c.next()
		b.send(nil)
		b.recv("hello", nil)
		if sent.running() || sent.err != nil || received.running() || received.value != "hello" {
			t.Errorf("SendMsg: %v; RecvMsg: %q, %v", sent.err, received.value, received.err)
		}
	})
	onFakes(t, "a RecvMsg that runs knows: a message", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		received, sent := recvAsync(s), sendAsync(s)
		a.send(io.EOF)
		a.recv("hello", nil)
		if sent.running() || !errors.Is(sent.err, io.EOF) || received.running() || received.value != "hello" {
			t.Errorf("SendMsg: %v, want io.EOF; RecvMsg: %q, %v", sent.err, received.value, received.err)
		}
		a.finish(errDown)
		c.noMore()
	})
	onFakes(t, "else gRPC does: no header", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		sent := sendAsync(s)
		a.send(io.EOF)
		received := recvAsync(s) // must not disturb it
		a.idle("RecvMsg")
		a.finish(errDown)
		a.header(nil)
		b := c.next()
		b.send(nil)
		b.recv("hello", nil)
		if sent.running() || sent.err != nil || received.running() || received.value != "hello" {
			t.Errorf("SendMsg: %v; RecvMsg: %q, %v", sent.err, received.value, received.err)
		}
	})
	onFakes(t, "else gRPC does: a header", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		sent := sendAsync(s)
		a.send(io.EOF)
		a.header(metadata.Pairs("from", "first"))
		if sent.running() || !errors.Is(sent.err, io.EOF) {
			t.Errorf("SendMsg: %v, want io.EOF", sent.err)
		}
		received := recvAsync(s)
		a.recv("a response that was on its way", nil)
		if received.running() || received.err != nil {
			t.Errorf("RecvMsg: %q, %v", received.value, received.err)
		}
		if err := s.SendMsg(new(request)); !errors.Is(err, io.EOF) {
			t.Errorf("SendMsg after io.EOF: %v", err)
		}
	})
	inBubble(t, "the attempt's context has ended, and OnFinish is late", func(t *testing.T) {
		// gRPC watches the context in a goroutine of its own.
		c := newFakes(t, again(), interceptors.Timeout(time.Second))
		for name, method := range map[string]func(s grpc.ClientStream) error{
			"SendMsg": func(s grpc.ClientStream) error { return s.SendMsg(new(request)) },
			"Header":  func(s grpc.ClientStream) error { _, err := s.Header(); return err },
		} {
			s := c.open(bidi)
			c.next()
			called := async(func() (struct{}, error) { return struct{}{}, method(s) })
			time.Sleep(time.Second)
			c.next().answer(name, answer{header: metadata.MD{}})
			if called.running() || called.err != nil {
				t.Errorf("%s: %v", name, called.err)
			}
		}
	})
}

// What the caller sends waits until what it had sent before has been sent again;
// what it receives does not, or a server that answers each message would stop
// reading.
func TestReplay(t *testing.T) {
	// failed returns a stream whose first attempt has failed after two messages,
	// and its second attempt.
	failed := func(c *fakes) (grpc.ClientStream, *fakeStream) {
		s := c.open(bidi)
		a := c.next()
		for range 2 {
			sent := sendAsync(s)
			a.send(nil)
			<-sent.done
		}
		received := recvAsync(s)
		a.finish(errDown)
		a.recv("", errDown)
		b := c.next()
		b.recv("hello", nil) // commits, while the messages are sent again
		if received.running() || received.value != "hello" {
			c.t.Errorf("RecvMsg during the replay: %q, %v", received.value, received.err)
		}
		return s, b
	}
	onFakes(t, "SendMsg waits", func(t *testing.T, c *fakes) {
		s, b := failed(c)
		sent := sendAsync(s)
		b.send(nil)
		if !sent.running() {
			t.Error("SendMsg returned during the replay")
		}
		b.send(nil)
		if !sent.running() {
			t.Error("SendMsg returned without having sent")
		}
		b.send(nil)
		if n, _ := b.got(); sent.running() || sent.err != nil || n != 3 {
			t.Errorf("SendMsg: %v, the attempt got %d messages", sent.err, n)
		}
	})
	onFakes(t, "CloseSend is remembered", func(t *testing.T, c *fakes) {
		s, b := failed(c)
		if err := s.CloseSend(); err != nil {
			t.Errorf("CloseSend: %v", err)
		}
		b.send(nil)
		if n, closed := b.got(); n != 1 || closed != 0 {
			t.Errorf("closed %d times after %d messages", closed, n)
		}
		b.send(nil)
		if n, closed := b.got(); n != 2 || closed != 1 {
			t.Errorf("closed %d times after %d messages, want once", closed, n)
		}
	})
	onFakes(t, "the attempt fails", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		for range 2 {
			sent := sendAsync(s)
			a.send(nil)
			<-sent.done
		}
		received := recvAsync(s)
		a.finish(errDown)
		a.recv("", errDown)
		b := c.next()
		b.send(io.EOF)
		b.finish(errDown)
		b.recv("", errDown)
		d := c.next()
		d.send(nil)
		d.send(nil)
		d.recv("hello", nil)
		if n, _ := d.got(); received.running() || received.value != "hello" || n != 2 {
			t.Errorf("RecvMsg: %q, %v; the last attempt got %d messages", received.value, received.err, n)
		}
	})
}

// CloseSend never waits: not for a backoff either.
func TestCloseSendBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakes(t, interceptors.Retry(retry.Config{Backoff: fixed(time.Second)}))
		s := c.open(bidi)
		a := c.next()
		received := recvAsync(s)
		a.finish(errDown)
		a.recv("", errDown)
		began := time.Now()
		if err := s.CloseSend(); err != nil {
			t.Errorf("CloseSend: %v", err)
		}
		// These do wait, for the attempt that follows.
		stream := async(func() (context.Context, error) { return s.Context(), nil })
		if took := time.Since(began); took != 0 || !stream.running() {
			t.Errorf("CloseSend took %v", took)
		}
		time.Sleep(time.Second)
		b := c.next()
		if _, closed := b.got(); closed != 1 {
			t.Errorf("CloseSend was called %d times on the second attempt", closed)
		}
		if stream.running() || stream.value != b.ctx {
			t.Error("Context is not that of the second attempt")
		}
		b.recvAndFinish("", errDown, errDown) // committed: Context has reached the caller
		c.noMore()
		if received.running() || status.Code(received.err) != codes.Unavailable {
			t.Errorf("RecvMsg: %v", received.err)
		}
	})
}

// OnFinish may be called before the stream is there, late, and more than once.
func TestOnFinish(t *testing.T) {
	inBubble(t, "before the stream is open", func(t *testing.T) {
		c := newFakes(t, again())
		c.onOpen = func(s *fakeStream) error {
			c.onOpen = nil
			s.report(errDown)
			return nil
		}
		s := c.open(bidi)
		c.next()
		received := recvAsync(s)
		c.next().recv("hello", nil)
		if received.running() || received.value != "hello" {
			t.Errorf("RecvMsg: %q, %v", received.value, received.err)
		}
	})
	inBubble(t, "where it does not open", func(t *testing.T) {
		c := newFakes(t, again())
		c.onOpen = func(s *fakeStream) error {
			c.onOpen = nil
			s.report(errDown)
			return errDown
		}
		c.open(bidi)
		if md, _ := metadata.FromOutgoingContext(c.next().ctx); md.Get("grpc-previous-rpc-attempts")[0] != "1" {
			t.Errorf("the second attempt says %v", md)
		}
	})
	onFakes(t, "twice, and late", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		received := recvAsync(s)
		a.recv("", errDown) // made up by an interceptor
		b := c.next()
		a.finish(context.Canceled)
		a.finish(nil)
		b.recv("hello", nil)
		if received.running() || received.value != "hello" {
			t.Errorf("RecvMsg: %q, %v", received.value, received.err)
		}
		received = recvAsync(s)
		b.recvAndFinish("", io.EOF, nil)
		b.finish(errDown)
		if received.running() || !errors.Is(received.err, io.EOF) {
			t.Errorf("RecvMsg: %v", received.err)
		}
	})
	onFakes(t, "with success commits", func(t *testing.T, c *fakes) {
		s := c.open(interceptors.KindClientStream)
		a := c.next()
		received := recvAsync(s)
		a.recvAndFinish("hello", nil, nil)
		c.noMore()
		if received.running() || received.value != "hello" || received.err != nil {
			t.Errorf("RecvMsg: %q, %v", received.value, received.err)
		}
	})
}

// A success that a layer inside the Retry turns into a failure is not repeated:
// the response has reached the caller, or is about to.
func TestSuccessIsNotRepeated(t *testing.T) {
	for _, k := range streamKinds {
		inBubble(t, k.String(), func(t *testing.T) {
			failing := fromEnd(func(error) error { return errDown })
			w := newWorld(t, worldOf{client: interceptors.New(again(), failing)})
			r := w.do(t.Context(), k, nil)
			if status.Code(r.err) != codes.Unavailable || w.server.ran.Load() != 1 {
				t.Errorf("ended with %v after %d attempts", r.err, w.server.ran.Load())
			}
		})
	}
}

// fromEnd is a layer that changes the end of RPCs.
func fromEnd(f func(error) error) interceptors.Layer {
	return func(inner interceptors.Service) interceptors.Service { return endService{inner, f} }
}

type endService struct {
	interceptors.Service

	f func(error) error
}

func (s endService) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	reply, err := s.Service.Call(ctx, rpc)
	return reply, s.f(err)
}

// An interceptor below may end an attempt that gRPC goes on with. It is
// cancelled, and then what waits in it returns.
func TestEndedByAnInterceptor(t *testing.T) {
	onFakes(t, "while SendMsg waits for flow control", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		received, sent := recvAsync(s), sendAsync(s)
		a.recv("", errDown)
		if a.ctx.Err() == nil {
			t.Error("the attempt was not cancelled")
		}
		b := c.next()
		b.send(nil)
		b.recv("hello", nil)
		if sent.running() || sent.err != nil || received.running() || received.value != "hello" {
			t.Errorf("SendMsg: %v; RecvMsg: %q, %v", sent.err, received.value, received.err)
		}
	})
	onFakes(t, "by an error of SendMsg", func(t *testing.T, c *fakes) {
		s := c.open(bidi)
		a := c.next()
		sent := sendAsync(s)
		a.send(status.Error(codes.InvalidArgument, "not valid"))
		c.noMore()
		if sent.running() || status.Code(sent.err) != codes.InvalidArgument || a.ctx.Err() == nil {
			t.Errorf("SendMsg: %v; the attempt is cancelled: %v", sent.err, a.ctx.Err())
		}
		if err := s.RecvMsg(new(response)); status.Code(err) != codes.InvalidArgument {
			t.Errorf("RecvMsg: %v", err)
		}
	})
}

// gRPC may write to the variables of an attempt that an interceptor ended when
// the next attempt is under way. The caller sees those of the attempt that
// counts.
func TestVariablesOfAttempts(t *testing.T) {
	onFakes(t, "late", func(t *testing.T, c *fakes) {
		header := metadata.Pairs("from", "before")
		s := c.open(bidi, grpc.Header(&header))
		a := c.next()
		received := recvAsync(s)
		a.recv("", errDown)
		b := c.next()
		b.writeHeader(metadata.Pairs("from", "second"))
		a.writeHeader(metadata.Pairs("from", "first"))
		a.finish(context.Canceled)
		if header["from"][0] != "before" {
			t.Errorf("during the stream: %v", header)
		}
		b.recvAndFinish("", io.EOF, nil)
		if received.running() || header["from"][0] != "second" {
			t.Errorf("at the end: %v", header)
		}
	})
	onFakes(t, "of an attempt that does not open", func(t *testing.T, c *fakes) {
		header := metadata.Pairs("from", "before")
		s := c.open(bidi, grpc.Header(&header))
		a := c.next()
		c.onOpen = func(*fakeStream) error { return errGone }
		a.writeHeader(metadata.Pairs("from", "first"))
		received := recvAsync(s)
		a.recvAndFinish("", errDown, errDown)
		if received.running() || status.Code(received.err) != codes.NotFound || header["from"][0] != "before" {
			t.Errorf("RecvMsg: %v; header %v", received.err, header)
		}
	})
}

// Fakes that know nothing of OnFinish, as in users' tests, end their streams all
// the same.
func TestStreamsThatIgnoreOnFinish(t *testing.T) {
	for _, layers := range [][]interceptors.Layer{nil, {again()}} {
		for _, k := range streamKinds {
			name := "without Retry/"
			if layers != nil {
				name = "with Retry/"
			}
			inBubble(t, name+k.String(), func(t *testing.T) {
				place := limit.NewConcurrency(1, limit.Queue{})
				c := newFakes(t, append([]interceptors.Layer{interceptors.Admit(place)}, layers...)...)
				s := c.open(k)
				a := c.next()
				received := recvAsync(s)
				a.recv("hello", nil)
				if received.running() || received.value != "hello" || received.err != nil {
					t.Errorf("RecvMsg: %q, %v", received.value, received.err)
				}
				if serverStreams(k) {
					received = recvAsync(s)
					a.recv("", io.EOF)
					if received.running() || !errors.Is(received.err, io.EOF) {
						t.Errorf("RecvMsg: %v", received.err)
					}
				}
				if place.Stats().InFlight != 0 {
					t.Error("the stream holds its place after its end")
				}
			})
			inBubble(t, name+k.String()+"/error", func(t *testing.T) {
				c := newFakes(t, append([]interceptors.Layer{interceptors.InContext()}, layers...)...)
				s := c.open(k)
				a := c.next()
				received := recvAsync(s)
				a.recv("", errGone)
				if received.running() || status.Code(received.err) != codes.NotFound {
					t.Errorf("RecvMsg: %v", received.err)
				}
			})
			if layers == nil {
				continue
			}
			inBubble(t, name+k.String()+"/EOF at once", func(t *testing.T) {
				c := newFakes(t, layers...)
				s := c.open(k)
				a := c.next()
				received := recvAsync(s)
				a.recv("", io.EOF) // and it is not asked again
				if received.running() || !errors.Is(received.err, io.EOF) {
					t.Errorf("RecvMsg: %v", received.err)
				}
			})
		}
	}
}

// A panic between two attempts goes on in whatever method of the caller waits.
func TestPanicBetweenAttempts(t *testing.T) {
	methods := map[string]func(s grpc.ClientStream){
		"RecvMsg": func(s grpc.ClientStream) { _ = s.RecvMsg(new(response)) },
		"SendMsg": func(s grpc.ClientStream) { _ = s.SendMsg(new(request)) },
		"Header":  func(s grpc.ClientStream) { _, _ = s.Header() },
		"Trailer": func(s grpc.ClientStream) { s.Trailer() },
		"Context": func(s grpc.ClientStream) { _ = s.Context() },
	}
	for name, method := range methods {
		inBubble(t, name, func(t *testing.T) {
			release := make(chan struct{})
			c := newFakes(t, fromEnd(func(err error) error {
				<-release
				panic("a fault")
			}), again())
			s := c.open(bidi)
			c.next().finish(errGone)
			panicked := async(func() (p any, _ error) {
				defer func() { p = recover() }()
				method(s)
				return nil, nil
			})
			if !panicked.running() {
				t.Fatal("it returned before the stack")
			}
			close(release)
			if panicked.running() || panicked.value != "a fault" {
				t.Errorf("recovered %v", panicked.value)
			}
		})
	}
}

// A streamer that panics is the caller's affair; the stack is not left behind.
func TestStreamerPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := limit.NewConcurrency(1, limit.Queue{})
		c := newFakes(t, interceptors.Admit(place), again())
		c.onOpen = func(*fakeStream) error { panic("a fault") }
		recovered := async(func() (p any, err error) {
			defer func() { p = recover() }()
			_, err = c.newStream(t.Context(), bidi)
			return nil, err
		})
		if recovered.running() || recovered.value != "a fault" {
			t.Errorf("NewStream: %v, recovered %v", recovered.err, recovered.value)
		}
		if place.Stats().InFlight != 0 {
			t.Error("the stream that was not opened holds its place")
		}
	})
}
