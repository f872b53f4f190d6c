package statusz

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

// large adds 10 stacks, 200 endpoints, and 200 methods to p. What it counts is
// noise, so that curves are as long as they can be.
func large(p *Page) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 10 {
		stack := interceptors.New(p.Layer(), interceptors.Recover(), interceptors.Timeout(time.Second), interceptors.Retry(retry.Config{}),
			interceptors.Breaker(breaker.Config{}), interceptors.ConcurrencyLimit(100, limit.Queue{}))
		p.Add(fmt.Sprintf("stack %d", i), stack)
		for m := range 20 {
			call(stack, fmt.Sprintf("/company.product.v1.Service%d/Method%d", i, m), nil)
		}
	}
	p.Add("fleet", describer(func(d *turret.Description) {
		d.Is("p2c", "turret.P2C")
		d.Gauge("endpoints_in_use", "{endpoint}", 200)
		for i := range 200 {
			d.Inside(describer(func(d *turret.Description) {
				d.Is("endpoint", "")
				d.Named(fmt.Sprintf("10.20.%d.%d:8080", i/250, i))
				d.State("state", "in_use")
				d.Count("calls", "{call}", "", uint64(random.IntN(1e6)))
				d.Gauge("latency", "s", random.Float64())
			}))
		}
	}))
}

// TestSize checks the bounds of a large page whose curves are full.
func TestSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{Endpoints: 200, Keep: 100 * time.Second}) // two samples for each point of a curve
		defer p.Close()
		large(p)
		time.Sleep(2 * time.Minute)
		body := get(p, "/").Body.Bytes()
		var small bytes.Buffer
		z := gzip.NewWriter(&small)
		_, _ = z.Write(body)
		_ = z.Close()
		t.Logf("%d bytes, %d with gzip", len(body), small.Len())
		if len(body) > 150_000 || small.Len() > 30_000 {
			t.Errorf("the page has %d bytes, %d with gzip, want at most 150,000 and 30,000", len(body), small.Len())
		}
		if n := strings.Count(string(body), "10.20."); n != 200 {
			t.Errorf("%d endpoints are listed, want 200", n)
		}
	})
}
