package statusz

import (
	"context"
	"errors"
	"maps"
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

// otherMethod stands for all methods beyond Config.Methods.
const otherMethod = "_OTHER"

// mostName is the longest method that is distinguished, in bytes.
const mostName = 200

type methodKey struct {
	side   interceptors.Side
	kind   interceptors.Kind
	method string
}

// A method counts the calls of one method. Its fields may be used concurrently.
type method struct {
	key      methodKey
	inFlight atomic.Int64
	codes    [17]atomic.Uint64
	took     [4 * 32]atomic.Uint64 // by duration: four buckets for each power of two of microseconds
}

// methods are all methods, at most most of them and the others of each kind and
// side. Calls read the map without a lock.
type methods struct {
	most   int
	mu     sync.Mutex // guards changes
	all    atomic.Pointer[map[methodKey]*method]
	beyond atomic.Uint64 // calls that were counted as of _OTHER
}

func newMethods(most int) *methods {
	m := &methods{most: most}
	m.all.Store(&map[methodKey]*method{})
	return m
}

// of returns where calls of rpc are counted.
func (m *methods) of(rpc *interceptors.RPC) *method {
	key := methodKey{rpc.Side, rpc.Kind, rpc.Method}
	if known := (*m.all.Load())[key]; known != nil {
		return known
	}
	return m.add(key)
}

func (m *methods) add(key methodKey) *method {
	full := len(*m.all.Load()) >= m.most
	if len(key.method) > mostName || full {
		key.method = otherMethod
		m.beyond.Add(1)
		if known := (*m.all.Load())[key]; known != nil {
			return known
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := *m.all.Load()
	if len(all) >= m.most {
		key.method = otherMethod
	}
	if known := all[key]; known != nil {
		return known
	}
	all = maps.Clone(all)
	made := &method{key: key}
	all[key] = made
	m.all.Store(&all)
	return made
}

func (m *method) ended(err error, took time.Duration) {
	m.inFlight.Add(-1)
	m.codes[min(int(interceptors.Code(err)), len(m.codes)-1)].Add(1)
	m.took[bucket(took)].Add(1)
}

// bucket returns the number of the bucket of a duration: buckets are a fourth of
// a power of two wide.
func bucket(took time.Duration) int {
	us := uint64(max(took.Microseconds(), 1))
	n := bits.Len64(us) - 1
	quarter := us << 2 >> n & 3
	return min(4*n+int(quarter), 4*32-1)
}

// quantile returns the q-quantile in seconds: the middle of its bucket.
func (m *method) quantile(q float64) float64 {
	var counts [len(m.took)]uint64
	total := uint64(0)
	for i := range m.took {
		counts[i] = m.took[i].Load()
		total += counts[i]
	}
	rest := uint64(q * float64(total))
	for i, n := range counts {
		if n > rest {
			return float64(uint64(1)<<(i/4)) * (1 + (float64(i%4)+0.5)/4) / 1e6
		}
		rest -= n
	}
	return 0
}

// counts returns how many calls have ended, how many of them not with OK, and
// which codes those had.
func (m *method) counts() (calls, failed uint64, by map[string]uint64) {
	for c := range m.codes {
		n := m.codes[c].Load()
		calls += n
		if c != int(codes.OK) && n > 0 {
			failed += n
			if by == nil {
				by = map[string]uint64{}
			}
			by[code.Code(c).String()] = n
		}
	}
	return calls, failed, by
}

type methodService struct {
	interceptors.Service // with events

	inner   interceptors.Service
	methods *methods
}

func (s *methodService) Call(ctx context.Context, rpc *interceptors.RPC) (reply any, err error) {
	m := s.methods.of(rpc)
	m.inFlight.Add(1)
	start := time.Now()
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit
			m.ended(errGone, time.Since(start))
		}
	}()
	reply, err = s.Service.Call(ctx, rpc)
	returned = true
	m.ended(err, time.Since(start))
	return reply, err
}

// errGone is counted where a call did not return.
var errGone = errors.New("the call did not return")

// String returns the name of the layer.
func (s *methodService) String() string { return "status page" }

// Describe says that calls are counted.
func (s *methodService) Describe(d *turret.Description) { d.Is("statusz", "status page") }

// Inner returns what RPCs go on to.
func (s *methodService) Inner() any { return s.inner }

// samples are the last call of each event, by kind, layer and reason. They are
// bounded: what comes later than mostSamples is not kept.
type samples struct {
	mu  sync.Mutex
	all map[sampleKey]Sample
}

type sampleKey struct{ what, layer, reason string }

const mostSamples = 200

func (s *samples) note(e interceptors.Event, now time.Time) {
	if e.RPC == nil {
		return
	}
	method := e.RPC.Method
	if len(method) > mostName {
		method = otherMethod
	}
	made := Sample{now, e.RPC.Side.String(), method}
	key := sampleKey{e.Kind.String(), e.Layer, e.Reason}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[sampleKey]Sample{}
	}
	if _, known := s.all[key]; known || len(s.all) < mostSamples {
		s.all[key] = made
	}
}

// last returns the last call that fits: that of the layer called name, or else
// that of any layer with the same reason.
func (s *samples) last(what, name, reason string) Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found, ok := s.all[sampleKey{what, name, reason}]; ok {
		return found
	}
	var found Sample
	for key, sample := range s.all {
		if key.what == what && key.reason == reason && sample.When.After(found.When) {
			found = sample
		}
	}
	return found
}

// processText names this process, without its host.
func processText(pid string) string { return "pid " + pid + " · " + runtime.Version() }
