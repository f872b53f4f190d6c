package demo

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Results are what a load saw. They are safe for concurrent use.
type Results struct {
	mu      sync.Mutex
	calls   int
	latency map[string]*hdrhistogram.Histogram // by kind, in microseconds
	answers map[string]int                     // by server
	failed  map[codes.Code]int
}

// NewResults returns results that have seen nothing yet.
func NewResults() *Results {
	return &Results{latency: map[string]*hdrhistogram.Histogram{}, answers: map[string]int{}, failed: map[codes.Code]int{}}
}

// slowest is the longest latency that is distinguished, in microseconds.
const slowest = int64(time.Minute / time.Microsecond)

func (r *Results) add(kind, server string, took time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls++
	h := r.latency[kind]
	if h == nil {
		h = hdrhistogram.New(1, slowest, 3)
		r.latency[kind] = h
	}
	_ = h.RecordValue(min(took.Microseconds(), slowest)) // in range
	if err != nil {
		r.failed[status.Code(err)]++
		return
	}
	r.answers[server]++
}

// Calls returns how many RPCs were made.
func (r *Results) Calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// Succeeded returns how many RPCs were answered.
func (r *Results) Succeeded() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, answers := range r.answers {
		n += answers
	}
	return n
}

// Quantile returns the latency, failed RPCs included, that a share q of the
// RPCs of one kind did not exceed.
func (r *Results) Quantile(kind string, q float64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.latency[kind]
	if h == nil {
		return 0
	}
	return time.Duration(h.ValueAtQuantile(100*q)) * time.Microsecond
}

// QuantileOfAll is Quantile over RPCs of all kinds.
func (r *Results) QuantileOfAll(q float64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := hdrhistogram.New(1, slowest, 3)
	for _, h := range r.latency {
		all.Merge(h)
	}
	return time.Duration(all.ValueAtQuantile(100*q)) * time.Microsecond
}

// Share returns which share of the answers came from the server.
func (r *Results) Share(server string) float64 {
	total := r.Succeeded()
	r.mu.Lock()
	defer r.mu.Unlock()
	if total == 0 {
		return 0
	}
	return float64(r.answers[server]) / float64(total)
}

// Failures returns how many RPCs ended with each code but OK, the codes in
// order.
func (r *Results) Failures() (order []codes.Code, count map[codes.Code]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.failed)), maps.Clone(r.failed)
}
