package interceptors_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/wire"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/trace"
)

// Hundreds of methods that callers make up, short ones and long ones, leave
// nothing behind in the stacks of a server that takes any, and of its client.
func TestManyMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tracing := interceptors.Trace(trace.Config{TracerProvider: sdktrace.NewTracerProvider()}) // keeps no spans
		stack := func() *interceptors.Stack {
			return interceptors.New(
				interceptors.Retry(retry.Config{}),
				tracing,
				interceptors.For("/made.Up/*", interceptors.ConcurrencyLimit(1, limit.Queue{}), interceptors.Timeout(time.Hour)),
				interceptors.RateLimit(limit.PerSecond(1_000_000), limit.Queue{}),
				interceptors.Breaker(breaker.Config{}),
				interceptors.InContext(),
			)
		}
		client := stack()
		w := wire.Start(t, wire.Config{
			Server: append(stack().ServerOptions(), grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
				return s.RecvMsg(new(request))
			})),
			Dial: client.DialOptions(),
		})
		call := func(name string) {
			s, err := w.Conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/made.Up/"+name)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.SendMsg(new(request)); err != nil {
				t.Fatal(err)
			}
			_ = s.CloseSend()
			if err := s.RecvMsg(new(response)); err != io.EOF { //nolint:errorlint // gRPC returns it unwrapped
				t.Fatalf("%.20s: %v", name, err)
			}
		}
		call("first")
		before := heapInUse()
		for i := range 600 {
			call(fmt.Sprintf("%d%s", i, strings.Repeat("x", i%2*16_000)))
		}
		if grown := int64(heapInUse()) - int64(before); grown > 2<<20 {
			t.Errorf("600 methods with names of 5 MB in all leave %d KB behind", grown>>10)
		}
		runtime.KeepAlive(client)
	})
}

func heapInUse() uint64 {
	synctest.Wait()
	var m runtime.MemStats
	runtime.GC() // what pools held moves to where the second one finds it
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
