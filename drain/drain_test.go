package drain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// within is how exactly bounds are kept.
const within = 100 * time.Millisecond

// handlers behave as the payload of the request says: "listen" and "deaf" are for
// streams, "ignore" for all, and anything else is how long the handler takes.
type handlers struct {
	echov1.UnimplementedEchoServiceServer

	release chan struct{} // ends the handlers that ignore their contexts
}

func (h *handlers) Unary(ctx context.Context, req *echov1.UnaryRequest) (*echov1.UnaryResponse, error) {
	if string(req.GetPayload()) == "ignore" {
		<-h.release
		return &echov1.UnaryResponse{}, nil
	}
	return &echov1.UnaryResponse{}, sleep(ctx, string(req.GetPayload()))
}

func (h *handlers) BidiStream(stream grpc.BidiStreamingServer[echov1.BidiStreamRequest, echov1.BidiStreamResponse]) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	switch how := string(req.GetPayload()); how {
	case "listen":
		select {
		case <-Notice(stream.Context()):
			return nil
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	case "deaf":
		_, err := stream.Recv()
		return err
	case "ignore":
		<-h.release
		return nil
	default:
		return sleep(stream.Context(), how)
	}
}

func sleep(ctx context.Context, d string) error {
	took, err := time.ParseDuration(d)
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	timer := time.NewTimer(took)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A world is a server with a Drainer, in a bubble.
type world struct {
	t        *testing.T
	server   *grpc.Server
	drainer  *Drainer
	handlers *handlers
	listener *bufconn.Listener
	health   *health.Server
	phases   []string

	calls sync.WaitGroup
	mu    sync.Mutex
	ended map[string]error
	conns []*grpc.ClientConn
}

// inWorld runs f in a bubble, and checks that nothing is left of it: the bubble
// waits for all of its goroutines.
func inWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, handlers: &handlers{release: make(chan struct{})}, listener: bufconn.Listen(1 << 16),
			health: health.NewServer(), ended: map[string]error{},
		}
		begin := time.Now()
		w.drainer = New(Config{Health: w.health, OnPhase: func(p Phase, left Left) {
			w.phases = append(w.phases, fmt.Sprintf("%s at %s: %v", p, time.Since(begin).Round(time.Second), left))
		}})
		stack := interceptors.New(w.drainer.Layer())
		w.server = grpc.NewServer(stack.ServerOptions()...)
		echov1.RegisterEchoServiceServer(w.server, w.handlers)
		healthpb.RegisterHealthServer(w.server, w.health)
		var serving sync.WaitGroup
		serving.Go(func() { _ = w.server.Serve(w.listener) })
		f(w)
		close(w.handlers.release)
		w.calls.Wait()
		for _, c := range w.conns {
			_ = c.Close()
		}
		w.server.Stop()
		serving.Wait()
	})
}

// dial returns a client with a connection of its own.
func (w *world) dial() echov1.EchoServiceClient {
	conn, err := grpc.NewClient("passthrough:///server",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return w.listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	w.conns = append(w.conns, conn)
	return echov1.NewEchoServiceClient(conn)
}

// start begins an RPC that goes on by itself, "unary ..." or "stream ...".
func (w *world) start(c echov1.EchoServiceClient, what string) {
	w.calls.Go(func() {
		err := call(c, what)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ended[what] = err
	})
	synctest.Wait()
}

func call(c echov1.EchoServiceClient, what string) error {
	kind, how, _ := strings.Cut(what, " ")
	if kind == "unary" {
		_, err := c.Unary(context.Background(), &echov1.UnaryRequest{Payload: []byte(how)})
		return err
	}
	stream, err := c.BidiStream(context.Background())
	if err != nil {
		return err
	}
	if err := stream.Send(&echov1.BidiStreamRequest{Payload: []byte(how)}); err != nil {
		return err
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if err.Error() == "EOF" {
		return nil
	}
	return err
}

// wants checks how an RPC has ended.
func (w *world) wants(what string, code codes.Code, reason string) {
	w.t.Helper()
	w.mu.Lock()
	err, ended := w.ended[what]
	w.mu.Unlock()
	if !ended || status.Code(err) != code || reasonOf(err) != reason {
		w.t.Errorf("%s: ended %t with %v, reason %q; want %s, reason %q", what, ended, err, reasonOf(err), code, reason)
	}
}

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == interceptors.Domain {
			return info.GetReason()
		}
	}
	return ""
}

func (w *world) near(got, want time.Duration) {
	w.t.Helper()
	if got < want || got > want+within {
		w.t.Errorf("Drain took %s, want %s and at most %s more", got, want, within)
	}
}

// A drain has its bound whatever runs, and each RPC the end that is promised.
func TestBoundOfEveryMix(t *testing.T) {
	kinds := []string{"unary 8s", "stream listen", "stream deaf", "stream ignore", "unary ignore"}
	for mix := range 1 << len(kinds) {
		t.Run(fmt.Sprintf("%05b", mix), func(t *testing.T) {
			inWorld(t, func(w *world) { w.drainMix(kinds, mix) })
		})
	}
}

func (w *world) drainMix(kinds []string, mix int) {
	var told, cut, stuck Left
	has := func(kind string) int { return mix >> slices.Index(kinds, kind) & 1 }
	client := w.dial()
	for _, kind := range kinds {
		if has(kind) == 1 {
			w.start(client, kind)
		}
	}
	stuck = Left{Unary: has("unary ignore"), Streams: has("stream ignore")}
	cut = Left{stuck.Unary, stuck.Streams + has("stream deaf")}
	told = Left{cut.Unary + has("unary 8s"), cut.Streams + has("stream listen")}
	want := 5 * time.Second
	switch {
	case stuck != Left{}:
		want = 27 * time.Second
	case cut != Left{}:
		want = 25 * time.Second
	case has("unary 8s") == 1:
		want = 8 * time.Second
	}
	got := w.drainer.Drain(context.Background(), w.server)
	w.near(got.Took, want)
	if got.Told != told || got.Cut != cut || got.Stuck != stuck {
		w.t.Errorf("reported %+v, want %+v, %+v, %+v", got, told, cut, stuck)
	}
	synctest.Wait()
	for kind, end := range map[string]struct {
		code   codes.Code
		reason string
	}{
		"unary 8s": {}, "stream listen": {}, "stream deaf": {codes.Unavailable, ReasonDraining},
		"stream ignore": {codes.Unavailable, ""}, "unary ignore": {codes.Unavailable, ""},
	} {
		if has(kind) == 1 {
			w.wants(kind, end.code, end.reason)
		}
	}
}

func TestPhases(t *testing.T) {
	inWorld(t, func(w *world) {
		client := w.dial()
		w.start(client, "stream deaf")
		w.start(client, "stream ignore")
		w.start(client, "unary 8s")
		w.drainer.Drain(context.Background(), w.server)
		want := []string{
			"LameDuck at 0s: {1 2}", "Stopping at 5s: {1 2}", "Cutting at 25s: {0 2}", "Stopped at 27s: {0 1}",
		}
		if !slices.Equal(w.phases, want) {
			t.Errorf("phases %q, want %q", w.phases, want)
		}
	})
}

// In LameDuck the server is not ready and its health says so, and new connections
// are served.
func TestNewConnectionsAreServedInLameDuck(t *testing.T) {
	inWorld(t, func(w *world) {
		drained := make(chan Report)
		go func() { drained <- w.drainer.Drain(context.Background(), w.server) }()
		time.Sleep(4 * time.Second)
		answer, err := w.health.Check(context.Background(), &healthpb.HealthCheckRequest{})
		if err != nil || answer.GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
			t.Errorf("health is %v, %v", answer, err)
		}
		for _, what := range []string{"unary 0s", "stream 0s"} {
			if err := call(w.dial(), what); err != nil {
				t.Errorf("%s on a new connection: %v", what, err)
			}
		}
		w.near((<-drained).Took, 5*time.Second)
		if err := call(w.dial(), "unary 0s"); status.Code(err) != codes.Unavailable {
			t.Errorf("after Drain: %v", err)
		}
	})
}

// When ctx is done, LameDuck and Stopping end, and Cutting has its time.
func TestEndOfContextEndsPhasesEarly(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start(w.dial(), "stream deaf")
		w.start(w.dial(), "stream ignore")
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		w.near(w.drainer.Drain(ctx, w.server).Took, 5*time.Second)
		w.wants("stream deaf", codes.Unavailable, ReasonDraining)
	})
}

func TestFurtherSignalEndsThePhase(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start(w.dial(), "stream deaf")
		w.start(w.dial(), "stream ignore")
		signals := make(chan os.Signal, 1)
		reported := make(chan Report)
		go func() { reported <- onSignal(context.Background(), w.drainer, w.server, signals) }()
		for _, d := range []time.Duration{time.Minute, time.Second, 2 * time.Second, 500 * time.Millisecond} {
			time.Sleep(d)
			signals <- os.Interrupt
		}
		got := <-reported
		w.near(got.Took, 3500*time.Millisecond)
		if want := (Left{Streams: 2}); got.Told != want || got.Cut != want || got.Stuck != (Left{Streams: 1}) {
			t.Errorf("reported %+v", got)
		}
	})
}

func TestOnSignalDrainsWhenContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d, server := New(Config{LameDuck: 1}), grpc.NewServer()
	first := OnSignal(ctx, d, server)
	if d.Phase() != Stopped || first.Stuck != (Left{}) {
		t.Errorf("%s, %+v", d, first)
	}
	if again := d.Drain(t.Context(), server); again != first {
		t.Errorf("a second Drain reports %+v, want %+v", again, first)
	}
}

// What begins in Cutting is refused before it runs, on both paths.
func TestCuttingRefusesNewRPCs(t *testing.T) {
	d := New(Config{})
	d.cutting()
	s := d.Layer()(turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) {
		t.Error("the RPC runs")
		return nil, nil
	}))
	for _, kind := range []interceptors.Kind{interceptors.KindUnary, interceptors.KindServerStream, interceptors.KindClientStream, interceptors.KindBidiStream} {
		_, err := s.Call(t.Context(), &interceptors.RPC{Kind: kind})
		if st := interceptors.Status(err); !errors.Is(err, ErrDraining) || !errors.Is(err, turret.ErrNotReady) ||
			st.Code() != codes.Unavailable || reasonOf(st.Err()) != ReasonDraining {
			t.Errorf("%s: %v, %v", kind, err, st)
		}
	}
	if got := d.Left(); got != (Left{}) {
		t.Errorf("%+v are left", got)
	}
	if got := turret.Describe(s, 0); got.Kind != "drain" || !strings.Contains(fmt.Sprint(got), "cutting") {
		t.Errorf("described as %+v", got)
	}
}

func TestReadySaysNoFromLameDuckOn(t *testing.T) {
	for p := Serving; p <= Stopped; p++ {
		d := New(Config{})
		d.enter(p)
		s := d.Layer()(turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) { return nil, nil }))
		if err := s.Ready(t.Context()); (err == nil) != (p == Serving) || err != nil && !errors.Is(err, ErrDraining) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// A panic and Goexit take the RPC out of the count.
func TestCountOfEveryWayOut(t *testing.T) {
	for name, leave := range map[string]func(){"panic": func() { panic("leave") }, "Goexit": runtime.Goexit, "return": func() {}} {
		for _, kind := range []interceptors.Kind{interceptors.KindUnary, interceptors.KindBidiStream} {
			d := New(Config{})
			s := d.Layer()(turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) {
				if d.Left() == (Left{}) {
					t.Error("the RPC is not counted")
				}
				leave()
				return nil, nil
			}))
			var done sync.WaitGroup
			done.Go(func() {
				defer func() { _ = recover() }()
				_, _ = s.Call(context.Background(), &interceptors.RPC{Kind: kind})
			})
			done.Wait()
			if got := d.Left(); got != (Left{}) {
				t.Errorf("%s, %s: %+v are left", name, kind, got)
			}
		}
	}
}

func TestAllocations(t *testing.T) {
	s := New(Config{}).Layer()(turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) { return nil, nil }))
	ctx := t.Context()
	for kind, most := range map[interceptors.Kind]float64{interceptors.KindUnary: 0, interceptors.KindBidiStream: 4} {
		rpc := &interceptors.RPC{Kind: kind}
		if got := testing.AllocsPerRun(100, func() { _, _ = s.Call(ctx, rpc) }); got > most {
			t.Errorf("%s: %v allocations, at most %v are allowed", kind, got, most)
		}
	}
}

func TestNoticeWithoutADrainer(t *testing.T) {
	if Notice(t.Context()) != nil {
		t.Error("Notice is not nil")
	}
}

func TestConfigNamesTheInvalidField(t *testing.T) {
	for field, c := range map[string]Config{"LameDuck": {LameDuck: -1}, "Notice": {Notice: -1}, "Cut": {Cut: -1}} {
		if e, ok := errors.AsType[*turret.FieldError](c.Validate()); !ok || e.Field != field {
			t.Errorf("%+v: %v", c, e)
		}
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "drain: New: "+field) {
					t.Errorf("New panics with %q", p)
				}
			}()
			New(c)
		}()
	}
}
