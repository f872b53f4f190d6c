package alarm

import (
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	loadv1 "github.com/turret-go/turret/proto/turret/load/v1"
)

const (
	// lookEvery is how often a server with watchers looks at itself, and so the
	// least time between two messages on a stream.
	lookEvery = 100 * time.Millisecond
	// repeatEvery is how often a sick server says so again: clients take a server
	// that has stopped saying so for one that is well.
	repeatEvery = time.Second
)

// Register registers turret.load.v1.Load, by which clients watch the server, at s.
// Its stream does not pass through the layers of a [interceptors.Stack], since it
// lasts as long as its connection: limits, timeouts and metrics are for other RPCs.
// Interceptors outside of stacks see it. Where one refuses it, clients do without.
// Register must be called before the server serves.
func (a *Alarm) Register(s grpc.ServiceRegistrar) { loadv1.RegisterLoadServer(s, &server{alarm: a}) }

// server is the gRPC service of an Alarm.
type server struct {
	loadv1.UnimplementedLoadServer

	alarm *Alarm
}

// Watch sends what there is to say until the client goes.
func (s *server) Watch(_ *loadv1.WatchRequest, stream grpc.ServerStreamingServer[loadv1.WatchResponse]) error {
	w, ok := s.alarm.join()
	if !ok {
		return status.Error(codes.ResourceExhausted, "too many streams of turret.load.v1.Load/Watch")
	}
	defer s.alarm.watchers.leave(w)
	for {
		select {
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		case <-w:
			if err := stream.Send(s.alarm.watchers.message()); err != nil {
				return err
			}
		}
	}
}

// watchers are the streams of one server. While there are any, one goroutine looks
// at the server.
type watchers struct {
	most int

	mu      sync.Mutex
	all     map[watcher]struct{}
	refused uint64
	stop    chan struct{}         // closed when the last one leaves
	latest  *loadv1.WatchResponse // immutable
}

// A watcher is one stream. It holds a value while there is something to send.
type watcher chan struct{}

// join adds a stream, unless there are too many.
func (a *Alarm) join() (w watcher, ok bool) {
	all := &a.watchers
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.all) >= all.most {
		all.refused++
		return nil, false
	}
	w = make(watcher, 1)
	if len(all.all) == 0 {
		all.all, all.stop, all.latest = map[watcher]struct{}{}, make(chan struct{}), new(loadv1.WatchResponse)
		go a.look(all.stop)
	}
	all.all[w] = struct{}{}
	if all.latest.GetSick() {
		w <- struct{}{}
	}
	return w, true
}

// leave takes a stream off.
func (all *watchers) leave(w watcher) {
	all.mu.Lock()
	defer all.mu.Unlock()
	delete(all.all, w)
	if len(all.all) == 0 {
		close(all.stop)
	}
}

func (all *watchers) count() (watching int, refused uint64) {
	all.mu.Lock()
	defer all.mu.Unlock()
	return len(all.all), all.refused
}

// message returns what there is to send.
func (all *watchers) message() *loadv1.WatchResponse {
	all.mu.Lock()
	defer all.mu.Unlock()
	return all.latest
}

// look looks at the server until stop is closed, and has it said when it becomes
// sick, while it is, and when it is well again.
func (a *Alarm) look(stop <-chan struct{}) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	sick, said := false, int64(0)
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		now := a.now()
		r := a.health.look(now)
		if r.sick == sick && (!sick || now-said < int64(repeatEvery)) {
			continue
		}
		sick, said = r.sick, now
		a.watchers.say(stop, &loadv1.WatchResponse{Sick: r.sick, Latency: durationpb.New(r.latency), Typical: durationpb.New(r.typical)})
	}
}

// say sends m to all streams. One that has not sent the last message yet sends this
// one in its place. It does nothing if stop is not that of the streams that are
// there now.
func (all *watchers) say(stop <-chan struct{}, m *loadv1.WatchResponse) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if (<-chan struct{})(all.stop) != stop {
		return
	}
	all.latest = m
	for w := range all.all {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}
