// Package traffic is RPCs of all four kinds to the EchoService, whose messages
// are numbered and whose answers are checked: what comes twice, too early, in
// another order or not at all is an [AnswerError].
package traffic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// Kinds are the kinds of RPC, as often as an even load has them.
var Kinds = [...]interceptors.Kind{
	interceptors.KindUnary, interceptors.KindServerStream, interceptors.KindClientStream, interceptors.KindBidiStream,
}

// PerStream is how many messages a stream has in each direction that streams.
const PerStream = 4

// Messages is how many messages an RPC of this kind sends.
func Messages(kind interceptors.Kind) int {
	if kind == interceptors.KindClientStream || kind == interceptors.KindBidiStream {
		return PerStream
	}
	return 1
}

// An RPC is one that is to be carried out. Its number stands in each of its
// messages, with the number of the message.
type RPC struct {
	Client echov1.EchoServiceClient
	ID     uint64
	Kind   interceptors.Kind
	Size   int          // of each message; the numbers, at least
	Plan   *echov1.Plan // what the server does; Do sets how many responses
}

// An AnswerError is an answer that is not the one that was due.
type AnswerError struct{ text string }

// Error returns the expected and the received number.
func (w *AnswerError) Error() string { return w.text }

// numbers is the size of the numbers in a message.
const numbers = 12

// Payload returns message number n of r, counted from 0.
func (r *RPC) Payload(n int) []byte {
	b := bytes.Repeat([]byte("0123456789"), r.Size/10+2)[:max(r.Size, numbers)]
	binary.BigEndian.PutUint64(b, r.ID)
	binary.BigEndian.PutUint32(b[8:], uint32(n))
	return b
}

// Parse returns the numbers of the RPC and of the message that a payload has.
func Parse(payload []byte) (id uint64, n int) {
	if len(payload) < numbers {
		panic(fmt.Sprintf("a payload of %d bytes", len(payload)))
	}
	return binary.BigEndian.Uint64(payload), int(binary.BigEndian.Uint32(payload[8:]))
}

// answer is what the responses of the four methods have in common.
type answer interface {
	GetPayload() []byte
	GetReport() *echov1.Report
}

// Check fails with an AnswerError unless an answer repeats message number n, and is
// the server's response number sent, after as many requests as were sent by then.
func (r *RPC) Check(a answer, n, sent, received int) error {
	report := a.GetReport()
	if report.GetSent() == int64(sent) && report.GetReceived() == int64(received) && bytes.Equal(a.GetPayload(), r.Payload(n)) {
		return nil
	}
	return &AnswerError{fmt.Sprintf("RPC %d (%v) got an answer of %d bytes, response %d after %d requests; want message %d, response %d after %d",
		r.ID, r.Kind, len(a.GetPayload()), report.GetSent(), report.GetReceived(), n, sent, received)}
}

// Do carries the RPC out, and returns the name of the server that answered.
func (r *RPC) Do(ctx context.Context) (server string, err error) {
	if r.Plan == nil {
		r.Plan = new(echov1.Plan)
	}
	switch r.Kind {
	case interceptors.KindServerStream:
		return r.serverStream(ctx)
	case interceptors.KindClientStream:
		return r.clientStream(ctx)
	case interceptors.KindBidiStream:
		return r.bidiStream(ctx)
	default:
		return r.unary(ctx)
	}
}

func (r *RPC) unary(ctx context.Context) (string, error) {
	a, err := r.Client.Unary(ctx, &echov1.UnaryRequest{Plan: r.Plan, Payload: r.Payload(0)})
	if err != nil {
		return "", err
	}
	return a.GetReport().GetServer(), r.Check(a, 0, 1, 1)
}

func (r *RPC) serverStream(ctx context.Context) (server string, err error) {
	r.Plan.Responses = new(int32(PerStream))
	stream, err := r.Client.ServerStream(ctx, &echov1.ServerStreamRequest{Plan: r.Plan, Payload: r.Payload(0)})
	if err != nil {
		return "", err
	}
	for n := range PerStream {
		a, err := stream.Recv()
		if err != nil {
			return "", r.unlessEarly(err)
		}
		if err := r.Check(a, 0, n+1, 1); err != nil {
			return "", err
		}
		server = a.GetReport().GetServer()
	}
	_, err = stream.Recv()
	return server, r.end(err)
}

func (r *RPC) clientStream(ctx context.Context) (string, error) {
	stream, err := r.Client.ClientStream(ctx)
	if err != nil {
		return "", err
	}
	for n := range PerStream {
		// An error is io.EOF, or the status; CloseAndRecv has the status.
		if stream.Send(&echov1.ClientStreamRequest{Plan: r.Plan, Payload: r.Payload(n)}) != nil {
			break
		}
	}
	a, err := stream.CloseAndRecv()
	if err != nil {
		return "", err
	}
	return a.GetReport().GetServer(), r.Check(a, PerStream-1, 1, PerStream)
}

func (r *RPC) bidiStream(ctx context.Context) (server string, err error) {
	stream, err := r.Client.BidiStream(ctx)
	if err != nil {
		return "", err
	}
	for n := range PerStream {
		_ = stream.Send(&echov1.BidiStreamRequest{Plan: r.Plan, Payload: r.Payload(n)}) // Recv has the status
		a, err := stream.Recv()
		if err != nil {
			return "", r.unlessEarly(err)
		}
		if err := r.Check(a, n, n+1, n+1); err != nil {
			return "", err
		}
		server = a.GetReport().GetServer()
	}
	_ = stream.CloseSend() // never fails
	_, err = stream.Recv()
	return server, r.end(err)
}

// unlessEarly returns the error of a stream that was not to end with OK yet.
func (r *RPC) unlessEarly(err error) error {
	if errors.Is(err, io.EOF) {
		return &AnswerError{fmt.Sprintf("RPC %d (%v) ended with OK before all of its answers", r.ID, r.Kind)}
	}
	return err
}

// end returns the status with which a stream ended that has given all answers.
func (r *RPC) end(err error) error {
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		return &AnswerError{fmt.Sprintf("RPC %d (%v) got more answers than it should", r.ID, r.Kind)}
	default:
		return err
	}
}
