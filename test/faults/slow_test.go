//go:build unix

package faults

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/test/faults/internal/traffic"
)

// large is the size of the messages of slow streams.
const large = 64 << 10

// A caller reads a stream far more slowly than the server could send it. It gets
// every message once, in order; what it has not read waits at the server; and
// no other RPC waits for it.
func TestSlowReader(t *testing.T) {
	w := begin(t, setup{})
	const messages, slowly = 256, 50
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := traffic.RPC{ID: w.ids.Add(1), Size: large}
	before := heap()
	stream, err := w.client.ServerStream(ctx, &echov1.ServerStreamRequest{
		Plan: &echov1.Plan{Responses: new(int32(messages))}, Payload: r.Payload(0),
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range messages {
		answer, err := stream.Recv()
		if err != nil {
			t.Fatalf("after %d messages: %v", n, err)
		}
		if err := r.Check(answer, 0, n+1, 1); err != nil {
			t.Fatal(err)
		}
		if n < slowly {
			w.others(10)
		}
		if n == slowly {
			grown, bound := heap()-before, messages*large/2
			if grown > bound {
				t.Errorf("the client keeps %d MiB of a stream of %d MiB that is not read", grown>>20, messages*large>>20)
			}
			t.Logf("while the stream was read slowly the client's memory grew by %d KiB (bound %d KiB)", grown>>10, bound>>10)
		}
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	w.normalAfter("a slow reader", time.Now(), names...)
	w.end() // all were answered
}

// A caller does not read its stream at all. The deadline ends it, on both sides.
func TestNoReader(t *testing.T) {
	w := begin(t, setup{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := traffic.RPC{ID: w.ids.Add(1), Size: large}
	stream, err := w.client.ServerStream(ctx, &echov1.ServerStreamRequest{
		Plan: &echov1.Plan{Responses: new(int32(1024))}, Payload: r.Payload(0),
	})
	if err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	w.normalAfter("a deadline that passed while nobody read", time.Now(), names...)
	// What has arrived by then may still be read; then comes the status.
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the stream ended with %v, want DEADLINE_EXCEEDED", err)
	}
	w.end() // all of the others were answered
}

// A server reads a stream more slowly than the caller sends. The caller waits in
// Send, and the deadline ends that too.
func TestSlowServer(t *testing.T) {
	w := begin(t, setup{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	r := traffic.RPC{ID: w.ids.Add(1), Size: large}
	stream, err := w.client.BidiStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	plan := &echov1.Plan{Delay: durationpb.New(100 * time.Millisecond), Responses: new(int32(1))}
	sent, began := 0, time.Now()
	for stream.Send(&echov1.BidiStreamRequest{Plan: plan, Payload: r.Payload(sent)}) == nil {
		sent++
	}
	took := w.awake(began, time.Now())
	if took > time.Second+lateness {
		t.Errorf("Send waited for %v, want until the deadline after 1s", took)
	}
	if sent*large > 1<<20 {
		t.Errorf("%d messages were sent to a server that read at most 10 of them", sent)
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("the stream ended with %v, want DEADLINE_EXCEEDED", err)
	}
	w.Logf("%d messages of %d KiB were sent until the deadline, %v after the first", sent, large>>10, took.Round(time.Millisecond))
	w.normalAfter("a slow server", time.Now(), names...)
	w.end() // all of the others were answered
}

// others waits until so many RPCs of the load have ended.
func (w *world) others(n int) {
	w.Helper()
	before, _ := w.load.ended()
	traffic.Await(w, "others have been answered", normalBound, func() bool {
		now, _ := w.load.ended()
		return now >= before+n
	}, w.load.String)
}

// heap returns how many bytes of memory are in use.
func heap() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
