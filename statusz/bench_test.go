//go:build unix

package statusz

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPage is what one second of a large page costs: a look, and what a
// viewer adds to it. The share of a core is of CPU time, the garbage collector's
// included.
func BenchmarkPage(b *testing.B) {
	p := New(Config{Endpoints: 200, Interval: time.Hour}) // looks are made below
	defer p.Close()
	large(p)
	now := time.Now()
	look := func() {
		now = now.Add(time.Second)
		p.look(now)
	}
	for range 600 {
		look()
	}
	b.Run("without a viewer", func(b *testing.B) { secondsOf(b, look) })
	b.Run("with a viewer", func(b *testing.B) {
		secondsOf(b, func() {
			look()
			r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/", nil)
			r.Header.Set("Accept-Encoding", "gzip")
			p.ServeHTTP(httptest.NewRecorder(), r)
		})
	})
}

// secondsOf measures f, which is what is done in one second.
func secondsOf(b *testing.B, f func()) {
	b.Helper()
	b.ReportAllocs()
	before := processor(b)
	for b.Loop() {
		f()
	}
	used := processor(b) - before
	b.ReportMetric(used.Seconds()/float64(b.N)*100, "%core")
}

// processor returns the CPU time that this process has used.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
