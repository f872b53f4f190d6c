package interceptors

import (
	"context"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// A scriptedStream is a stream of gRPC whose methods do what a test says.
type scriptedStream struct {
	grpc.ClientStream

	send   func() error
	header func() metadata.MD
}

func (s *scriptedStream) SendMsg(any) error            { return s.send() }
func (s *scriptedStream) Header() (metadata.MD, error) { return s.header(), nil }
func (s *scriptedStream) Context() context.Context     { return context.Background() }

// TestSendGoesToTheAttemptThatCounts has the attempt on which a message is sent end,
// and another one be committed, before SendMsg runs on: the message is sent on the
// attempt that counts. Which goroutine has the mutex when is chance; the test is
// what happens in the other ones.
func TestSendGoesToTheAttemptThatCounts(t *testing.T) {
	c := &streamClient{desc: &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}}
	c.changed.L = &c.mu
	c.replay = &replay{of: c, inner: encoding.GetCodecV2("proto"), limit: 1 << 10}
	first, second := &c.first, new(attempt)
	for _, a := range []*attempt{first, second} {
		a.of, a.ctx = c, t.Context()
	}
	sent := 0
	second.stream = &scriptedStream{send: func() error { sent++; return nil }}
	first.stream = &scriptedStream{
		send: func() error { return io.EOF },
		header: func() metadata.MD {
			c.mu.Lock()
			defer c.mu.Unlock()
			first.end(status.Error(codes.Unavailable, "down"))
			c.current = second
			c.commit()
			return nil
		},
	}
	c.current = first
	if err := c.SendMsg(new(emptypb.Empty)); err != nil || sent != 1 {
		t.Errorf("SendMsg: %v; %d sent on the attempt that counts, want 1", err, sent)
	}
}
