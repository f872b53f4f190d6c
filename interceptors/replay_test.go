package interceptors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
)

// What is sent again, and until when.

// A scripted server runs a function for each stream, whatever its method.
type scripted struct {
	*wire.Pair

	t       *testing.T
	streams atomic.Int64
}

// serve starts a server that runs f for each stream with the number of streams
// before it, and a client with these layers.
func serve(t *testing.T, f func(n int, s grpc.ServerStream) error, layers ...interceptors.Layer) *scripted {
	t.Helper()
	return serveWith(t, f, wire.Config{}, layers...)
}

// serveWith is serve with more: dial options of c are behind the layers.
func serveWith(t *testing.T, f func(n int, s grpc.ServerStream) error, c wire.Config, layers ...interceptors.Layer) *scripted {
	t.Helper()
	p := &scripted{t: t}
	c.Server = append(c.Server, grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		return f(int(p.streams.Add(1))-1, s)
	}))
	c.Dial = append(interceptors.New(layers...).DialOptions(), c.Dial...)
	p.Pair = wire.Start(t, c)
	return p
}

// open opens a stream. Its context is cancelled at the end of the test.
func (p *scripted) open(k interceptors.Kind, opts ...grpc.CallOption) grpc.ClientStream {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	p.t.Cleanup(cancel)
	s, err := p.openIn(ctx, k, opts...)
	if err != nil {
		p.t.Fatalf("NewStream: %v", err)
	}
	return s
}

func (p *scripted) openIn(ctx context.Context, k interceptors.Kind, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ClientStreams: clientStreams(k), ServerStreams: serverStreams(k)}
	return p.Conn.NewStream(ctx, desc, "/script/Stream", opts...)
}

// read receives n requests on the server, and returns their payloads.
func read(s grpc.ServerStream, n int) (payloads [][]byte, err error) {
	for range n {
		m := new(request)
		if err := s.RecvMsg(m); err != nil {
			return payloads, err
		}
		payloads = append(payloads, m.GetPayload())
	}
	return payloads, nil
}

// failFirst is a server whose first stream fails with err after n requests; the
// others answer with every request they get.
func failFirst(n int, err error) func(int, grpc.ServerStream) error {
	return func(before int, s grpc.ServerStream) error {
		if before == 0 {
			if _, err := read(s, n); err != nil {
				return err
			}
			return err
		}
		return echoAll(s)
	}
}

func echoAll(s grpc.ServerStream) error {
	for {
		got, err := read(s, 1)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.SendMsg(&response{Payload: got[0]}); err != nil {
			return err
		}
	}
}

// A message of n bytes, encoded.
func messageOf(n int) *request {
	m := &request{Payload: make([]byte, n)}
	for sizeOf(m) > n {
		m.Payload = m.Payload[1:]
	}
	return m
}

func sizeOf(m *request) int {
	data, err := encoding.GetCodecV2("proto").Marshal(m)
	if err != nil {
		panic(err)
	}
	defer data.Free()
	return data.Len()
}

// The bound is of the encoded bytes of all messages. At the bound a stream is
// retried, past it it is not, and ends with its own status.
func TestReplayLimit(t *testing.T) {
	const limit = 1000
	tests := []struct {
		name    string
		limit   int
		sizes   []int
		retried bool
	}{
		{"at the bound", limit, []int{limit}, true},
		{"past the bound", limit, []int{limit + 1}, false},
		{"at the bound in all", limit, []int{400, 600}, true},
		{"past the bound in all", limit, []int{400, 601}, false},
		{"nothing is kept", 0, []int{10}, false},
		{"nothing is kept, and needs to be", 0, []int{0, 0, 0}, true},
		{"default", interceptors.DefaultReplayLimit, []int{interceptors.DefaultReplayLimit}, true},
		{"past the default", interceptors.DefaultReplayLimit, []int{interceptors.DefaultReplayLimit, 10}, false},
	}
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			p := serve(t, failFirst(len(tt.sizes), errDown), again(interceptors.ReplayLimit(tt.limit)))
			s := p.open(bidi)
			for _, size := range tt.sizes {
				if err := s.SendMsg(messageOf(size)); err != nil {
					t.Fatalf("SendMsg: %v", err)
				}
			}
			_ = s.CloseSend()
			responses, err := receive(s, bidi)
			if tt.retried && (err != nil || len(responses) != len(tt.sizes) || p.streams.Load() != 2) {
				t.Errorf("%d responses, %v, after %d attempts", len(responses), err, p.streams.Load())
			}
			if !tt.retried && (status.Code(err) != codes.Unavailable || p.streams.Load() != 1) {
				t.Errorf("ended with %v after %d attempts, want the status of the first", err, p.streams.Load())
			}
		})
	}
}

// More than all buffers between the two hold is sent again to a server that
// answers each message: SendMsg and RecvMsg need each other.
func TestReplayBeyondFlowControl(t *testing.T) {
	const messages, size = 32, 64 << 10
	synctest.Test(t, func(t *testing.T) {
		p := serve(t, failFirst(messages, errDown), again(interceptors.ReplayLimit(2*messages*size)))
		s := p.open(bidi)
		go func() {
			m := &request{Payload: make([]byte, size)}
			for i := range messages {
				m.Payload[0] = byte(i) // the same message again and again
				if err := s.SendMsg(m); err != nil {
					t.Errorf("SendMsg: %v", err)
				}
			}
			_ = s.CloseSend()
		}()
		responses, err := receive(s, bidi)
		if err != nil || len(responses) != messages {
			t.Fatalf("%d responses, %v", len(responses), err)
		}
		for i, r := range responses {
			if len(r.GetPayload()) != size || r.GetPayload()[0] != byte(i) {
				t.Errorf("response %d: %d bytes, from %d", i, len(r.GetPayload()), r.GetPayload()[0])
			}
		}
	})
}

// A response that has arrived when SendMsg sees the end is not lost.
func TestResponseBeforeEOF(t *testing.T) {
	for _, end := range []error{nil, errDown, errGone} {
		inBubble(t, status.Code(end).String(), func(t *testing.T) {
			p := serve(t, func(_ int, s grpc.ServerStream) error {
				if err := s.SendMsg(&response{Payload: []byte("early")}); err != nil {
					return err
				}
				return end
			}, again())
			s := p.open(bidi)
			synctest.Wait()
			if err := s.SendMsg(new(request)); !errors.Is(err, io.EOF) {
				t.Errorf("SendMsg: %v, want io.EOF", err)
			}
			responses, err := receive(s, bidi)
			if len(responses) != 1 || status.Code(err) != status.Code(end) || p.streams.Load() != 1 {
				t.Errorf("%d responses, %v, after %d attempts", len(responses), err, p.streams.Load())
			}
		})
	}
}

// An error of SendMsg that is not io.EOF is the caller's fault, and the end.
func TestSendMsgFails(t *testing.T) {
	tests := []struct {
		name string
		send func(s grpc.ClientStream) error
		code codes.Code
	}{
		{"too large", func(s grpc.ClientStream) error { return s.SendMsg(messageOf(1001)) }, codes.ResourceExhausted},
		{"not a message", func(s grpc.ClientStream) error { return s.SendMsg("text") }, codes.Internal},
		{"after CloseSend", func(s grpc.ClientStream) error {
			_ = s.CloseSend()
			return s.SendMsg(new(request))
		}, codes.Internal},
	}
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			all := interceptors.RetryCodes(codes.ResourceExhausted, codes.Internal)
			p := serve(t, failFirst(3, errDown), retryOf(all))
			s := p.open(bidi, grpc.MaxCallSendMsgSize(1000))
			if err := s.SendMsg(messageOf(1000)); err != nil {
				t.Fatalf("SendMsg: %v", err)
			}
			err := tt.send(s)
			if status.Code(err) != tt.code {
				t.Errorf("SendMsg: %v", err)
			}
			if err := s.RecvMsg(new(response)); status.Code(err) != tt.code {
				t.Errorf("RecvMsg: %v", err)
			}
			synctest.Wait()
			if n := p.streams.Load(); n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

// A message that gRPC has prepared cannot be kept. It is sent, and commits.
func TestPreparedMsg(t *testing.T) {
	prepare := func(t *testing.T, s grpc.ClientStream) *grpc.PreparedMsg {
		m := new(grpc.PreparedMsg)
		if err := m.Encode(s, &request{Payload: []byte("prepared")}); err != nil {
			t.Fatalf("Encode: %v", err)
		}
		return m
	}
	inBubble(t, "works", func(t *testing.T) {
		p := serve(t, func(_ int, s grpc.ServerStream) error { return echoAll(s) }, again())
		s := p.open(bidi, grpc.UseCompressor(gzip.Name))
		for range 2 {
			if err := s.SendMsg(prepare(t, s)); err != nil {
				t.Fatalf("SendMsg: %v", err)
			}
		}
		_ = s.CloseSend()
		responses, err := receive(s, bidi)
		if err != nil || len(responses) != 2 || string(responses[1].GetPayload()) != "prepared" {
			t.Errorf("%d responses, %v", len(responses), err)
		}
	})
	inBubble(t, "commits", func(t *testing.T) {
		p := serve(t, func(n int, s grpc.ServerStream) error {
			if n == 0 {
				return echoAll(s)
			}
			return failFirst(2, errDown)(n-1, s)
		}, again())
		// Prepared for another stream, so that this one's Context is not asked for.
		prepared := prepare(t, p.open(bidi))
		synctest.Wait()
		s := p.open(bidi)
		if err := errors.Join(s.SendMsg(new(request)), s.SendMsg(prepared)); err != nil {
			t.Fatalf("SendMsg: %v", err)
		}
		if _, err := receive(s, bidi); status.Code(err) != codes.Unavailable || p.streams.Load() != 2 {
			t.Errorf("ended with %v after %d attempts", err, p.streams.Load()-1)
		}
	})
}

// Context returns that of the stream, in which its peer is, and commits; Trailer
// commits too.
func TestContextCommits(t *testing.T) {
	for name, ask := range map[string]func(t *testing.T, s grpc.ClientStream){
		"Context": func(t *testing.T, s grpc.ClientStream) {
			if _, ok := peer.FromContext(s.Context()); !ok {
				t.Error("the context of the stream has no peer")
			}
		},
		"Trailer": func(_ *testing.T, s grpc.ClientStream) { s.Trailer() },
	} {
		inBubble(t, name, func(t *testing.T) {
			p := serve(t, failFirst(1, errDown), again())
			s := p.open(bidi)
			synctest.Wait()
			ask(t, s)
			if err := s.SendMsg(new(request)); err != nil {
				t.Fatalf("SendMsg: %v", err)
			}
			if _, err := receive(s, bidi); status.Code(err) != codes.Unavailable || p.streams.Load() != 1 {
				t.Errorf("ended with %v after %d attempts", err, p.streams.Load())
			}
		})
	}
}

// A stream that has one response and whose success Header is the first to see:
// what is missing is RecvMsg's to say.
func TestHeaderSeesASuccess(t *testing.T) {
	for k, want := range map[interceptors.Kind]error{
		interceptors.KindClientStream: status.Error(codes.Internal, "no response"),
		interceptors.KindBidiStream:   io.EOF,
	} {
		inBubble(t, k.String(), func(t *testing.T) {
			p := serve(t, func(int, grpc.ServerStream) error { return nil }, again())
			s := p.open(k)
			if md, err := s.Header(); md != nil || err != nil {
				t.Errorf("Header: %v, %v, want nothing", md, err)
			}
			if err := s.RecvMsg(new(response)); status.Code(err) != status.Code(want) || errors.Is(want, io.EOF) != errors.Is(err, io.EOF) {
				t.Errorf("RecvMsg: %v, want %v", err, want)
			}
		})
	}
}

// plain encodes messages as JSON, and decodes into whatever a message has
// already, as encoding/json does.
type plain struct{}

func (plain) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (plain) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// plainV0, plainV1 and plainV2 are the three kinds of codec that gRPC knows.
type (
	plainV0 struct{ plain }
	plainV1 struct {
		plain

		name string
	}
	plainV2 struct{ name string }
)

func (plainV0) String() string { return "v0" }
func (c plainV1) Name() string { return c.name }
func (c plainV2) Name() string { return c.name }

func (plainV2) Marshal(v any) (mem.BufferSlice, error) {
	data, err := json.Marshal(v)
	return mem.BufferSlice{mem.SliceBuffer(data)}, err
}

func (plainV2) Unmarshal(data mem.BufferSlice, v any) error {
	return json.Unmarshal(data.Materialize(), v)
}

func init() {
	encoding.RegisterCodec(plainV1{name: "plain-v1"})
	encoding.RegisterCodecV2(plainV2{"plain-v2"})
}

// text is a message of the plain codecs.
type text struct{ Words []string }

// Whatever codec and compressor the caller chooses, the bytes that are sent
// again are those that were sent, and the server gets the same description of
// them as without a Retry.
func TestReplayWithCodecs(t *testing.T) {
	tests := []struct {
		name string
		opts []grpc.CallOption
	}{
		{"default", nil},
		{"compressed", []grpc.CallOption{grpc.UseCompressor(gzip.Name)}},
		{"content-subtype of a v1 codec", []grpc.CallOption{grpc.CallContentSubtype("Plain-V1")}},
		{"content-subtype of a v2 codec", []grpc.CallOption{grpc.CallContentSubtype("plain-v2")}},
		{"content-subtype proto", []grpc.CallOption{grpc.CallContentSubtype("proto")}},
		{"ForceCodec", []grpc.CallOption{grpc.ForceCodec(plainV1{name: "Forced"})}},
		{"ForceCodecV2", []grpc.CallOption{grpc.ForceCodecV2(plainV2{"forced-v2"})}},
		{"ForceCodecV2 without a name", []grpc.CallOption{grpc.ForceCodecV2(plainV2{})}},
		{"CallCustomCodec", []grpc.CallOption{grpc.CallCustomCodec(plainV0{})}}, //nolint:staticcheck // people have it
		{"the last one counts", []grpc.CallOption{grpc.ForceCodecV2(plainV2{"first"}), grpc.ForceCodec(plainV1{name: "last"})}},
		{"codec and content-subtype", []grpc.CallOption{grpc.ForceCodec(plainV1{name: "codec"}), grpc.CallContentSubtype("subtype")}},
	}
	for _, tt := range tests {
		inBubble(t, tt.name, func(t *testing.T) {
			want := sentWith(t, 0, tt.opts)
			if got := sentWith(t, 1, tt.opts); got != want {
				t.Errorf("sent again: %s\n   bare: %s", got, want)
			}
		})
	}
	inBubble(t, "chosen inside the Retry", func(t *testing.T) {
		opts := []grpc.CallOption{grpc.ForceCodec(plainV1{name: "inner"})}
		want := sentWith(t, 0, opts)
		if got := sentWith(t, 1, nil, withOptions(opts...)); got != want {
			t.Errorf("sent again: %s\n   bare: %s", got, want)
		}
	})
	inBubble(t, "unknown content-subtype", func(t *testing.T) {
		unknown := grpc.CallContentSubtype("nobody")
		p := serve(t, failFirst(0, errDown), again())
		_, err := p.Conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/script/Stream", unknown)
		bare := serve(t, failFirst(0, errDown))
		_, want := bare.Conn.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/script/Stream", unknown)
		if err == nil || err.Error() != want.Error() {
			t.Errorf("NewStream: %v, want %v", err, want)
		}
	})
}

// sentWith sends messages to a server that fails this many times, and returns
// what it got when it did not fail.
func sentWith(t *testing.T, failures int, opts []grpc.CallOption, inside ...interceptors.Layer) string {
	t.Helper()
	var got bytes.Buffer
	layers := []interceptors.Layer{}
	if failures > 0 {
		layers = append([]interceptors.Layer{again()}, inside...)
	}
	raw := new(bytesCodec)
	p := serveWith(t, func(n int, s grpc.ServerStream) error {
		var bodies []string
		for range 3 {
			var body []byte
			if err := s.RecvMsg(&body); err != nil {
				return err
			}
			bodies = append(bodies, string(body))
		}
		if n < failures {
			return errDown
		}
		md, _ := metadata.FromIncomingContext(s.Context())
		fmt.Fprintf(&got, "%q, compressed %q: %q", md.Get("content-type"), md.Get("grpc-encoding"), bodies)
		return errGone
	}, wire.Config{Server: []grpc.ServerOption{grpc.ForceServerCodecV2(raw)}}, layers...)
	s := p.open(bidi, opts...)
	if isProto(opts, inside) {
		m := new(request)
		for i := range 3 {
			m.Payload = append(m.Payload, byte('a'+i))
			if err := s.SendMsg(m); err != nil {
				t.Fatalf("SendMsg: %v", err)
			}
		}
	} else {
		m := new(text)
		for i := range 3 {
			m.Words = append(m.Words, fmt.Sprint("word ", i))
			if err := s.SendMsg(m); err != nil {
				t.Fatalf("SendMsg: %v", err)
			}
		}
	}
	if err := s.RecvMsg(new(response)); status.Code(err) != codes.NotFound || int(p.streams.Load()) != failures+1 {
		t.Fatalf("ended with %v after %d attempts", err, p.streams.Load())
	}
	return got.String()
}

// isProto reports whether the codec of these options takes messages of protobuf.
func isProto(opts []grpc.CallOption, inside []interceptors.Layer) bool {
	return len(inside) == 0 && !slices.ContainsFunc(opts, func(o grpc.CallOption) bool {
		switch o := o.(type) {
		case grpc.ContentSubtypeCallOption:
			return o.ContentSubtype != "proto"
		case grpc.CompressorCallOption:
			return false
		default:
			return true
		}
	})
}

// bytesCodec hands out messages as they are.
type bytesCodec struct{}

func (bytesCodec) Name() string                           { return "bytes" }
func (bytesCodec) Marshal(v any) (mem.BufferSlice, error) { return nil, fmt.Errorf("marshal %T", v) }

func (bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// withOptions is a layer that adds call options.
func withOptions(opts ...grpc.CallOption) interceptors.Layer {
	return func(inner interceptors.Service) interceptors.Service { return optionsService{inner, opts} }
}

type optionsService struct {
	interceptors.Service

	opts []grpc.CallOption
}

func (s optionsService) Call(ctx context.Context, rpc *interceptors.RPC) (any, error) {
	return s.Service.Call(ctx, rpc.WithOptions(s.opts...))
}

// A codec that adds to a message what it decodes does not mix the responses of
// two attempts: the first one's came in front of an error.
func TestResponsesAreNotMixed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		codec := plainV2{"mixing"}
		p := serveWith(t, func(n int, s grpc.ServerStream) error {
			if n == 0 {
				return errors.Join(s.SendMsg(map[string]any{"First": "one"}), errDown)
			}
			return s.SendMsg(map[string]any{"Second": "two"})
		}, wire.Config{Server: []grpc.ServerOption{grpc.ForceServerCodecV2(codec)}}, retryOf(interceptors.RetryCodes(codes.Unknown, codes.Unavailable)))
		s := p.open(interceptors.KindClientStream, grpc.ForceCodecV2(codec))
		type reply struct{ Kept, First, Second string }
		m := &reply{Kept: "kept"}
		if err := s.RecvMsg(m); err != nil || *m != (reply{Kept: "kept", Second: "two"}) {
			t.Errorf("RecvMsg: %+v, %v", m, err)
		}
	})
}

// poisoned is a pool of buffers whose bytes are gone once they are given back.
type poisoned struct {
	mu   sync.Mutex
	out  map[*[]byte]bool
	most int
	bad  []string
}

func (p *poisoned) Get(n int) *[]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := make([]byte, n)
	p.out[&b] = true
	p.most = max(p.most, len(p.out))
	return &b
}

func (p *poisoned) Put(b *[]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.out[b] {
		p.bad = append(p.bad, "a buffer was given back twice")
	}
	delete(p.out, b)
	for i := range *b {
		(*b)[i] = 0xff
	}
}

// pooled is a codec whose bytes are of a pool.
type pooled struct {
	plainV2

	pool *poisoned
}

func (c pooled) Marshal(v any) (mem.BufferSlice, error) {
	data, err := json.Marshal(v)
	b := c.pool.Get(len(data))
	copy(*b, data)
	return mem.BufferSlice{mem.NewBuffer(b, c.pool)}, err
}

// The bytes of messages are kept as long as they may have to be sent again, and
// all of them are given back.
func TestKeptBytesAreGivenBack(t *testing.T) {
	const messages = 6 // of which a pool is used for: more than 1 KiB
	big := func(i int) *text { return &text{[]string{fmt.Sprint("message ", i), string(make([]byte, 500))}} }
	ends := map[string]struct {
		fails int
		use   func(s grpc.ClientStream)
		end   error
	}{
		"retried": {2, func(grpc.ClientStream) {}, nil},
		"failed":  {9, func(grpc.ClientStream) {}, errDown},
		"committed while there is nothing to send": {0, func(s grpc.ClientStream) { _ = s.Context() }, nil},
		"failed for good":                          {0, func(grpc.ClientStream) {}, errGone},
	}
	for name, tt := range ends {
		inBubble(t, name, func(t *testing.T) {
			pool := &poisoned{out: map[*[]byte]bool{}}
			codec := pooled{plainV2{"pooled"}, pool}
			p := serveWith(t, func(n int, s grpc.ServerStream) error {
				for i := range messages {
					m := new(text)
					if err := s.RecvMsg(m); err != nil || len(m.Words) != 2 || m.Words[0] != big(i).Words[0] {
						t.Errorf("attempt %d, message %d: %q, %v", n, i, m.Words, err)
						return errGone
					}
				}
				// gRPC loses bytes of a SendMsg that returns when the stream has ended.
				time.Sleep(time.Millisecond)
				if n < tt.fails {
					return errDown
				}
				return tt.end
			}, wire.Config{Server: []grpc.ServerOption{grpc.ForceServerCodecV2(plainV2{"pooled"})}}, again())
			s := p.open(bidi, grpc.ForceCodecV2(codec))
			for i := range messages {
				if err := s.SendMsg(big(i)); err != nil {
					t.Fatalf("SendMsg: %v", err)
				}
			}
			tt.use(s)
			if err := s.RecvMsg(new(text)); status.Code(err) != status.Code(tt.end) && !errors.Is(err, io.EOF) {
				t.Errorf("RecvMsg: %v", err)
			}
			p.Stop()
			synctest.Wait() // gRPC gives back too
			pool.mu.Lock()
			defer pool.mu.Unlock()
			if len(pool.out) != 0 || pool.most == 0 || len(pool.bad) > 0 {
				t.Errorf("%d buffers were not given back, %d were out at once: %q", len(pool.out), pool.most, pool.bad)
			}
		})
	}
}
