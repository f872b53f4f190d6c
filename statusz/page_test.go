package statusz

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
)

type describer func(d *turret.Description)

func (f describer) Describe(d *turret.Description) { f(d) }

// get returns the answer of p to a GET of target.
func get(p *Page, target string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, target, nil))
	return w
}

// first returns the first line of the findings.
func first(t *testing.T, p *Page) string {
	t.Helper()
	v := p.View()
	if len(v.Findings) == 0 {
		t.Fatal("nothing was found")
	}
	if f := v.Findings[0]; f.Turn == "" {
		t.Errorf("%+v does not say what to turn", f)
	}
	return v.Findings[0].Where + " " + v.Findings[0].What
}

// TestFirstLine checks that what is wrong is the first line after two seconds.
func TestFirstLine(t *testing.T) {
	cases := map[string]struct {
		make func(t *testing.T) turret.Describer
		want string
	}{
		"limit is full": {func(t *testing.T) turret.Describer {
			t.Helper()
			l := limit.NewConcurrency(1, limit.Queue{})
			if _, err := l.TryEnter(t.Context()); err != nil {
				t.Fatal(err)
			}
			return l
		}, "is full: 1 of 1 in flight"},
		"breaker is open": {func(t *testing.T) turret.Describer {
			t.Helper()
			b := breaker.New(breaker.Config{Consecutive: 1})
			ticket, err := b.TryEnter(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b.Leave(ticket, turret.Failure)
			return b
		}, "front is "}, // open, or half open if its first ban is over
		"budget is spent": {func(t *testing.T) turret.Describer {
			t.Helper()
			b := retry.NewBudget(retry.BudgetConfig{MinPerSecond: 1, Window: time.Minute})
			for b.Withdraw() {
			}
			return b
		}, "is spent"},
		"endpoint is banned": {func(*testing.T) turret.Describer {
			return describer(func(d *turret.Description) {
				d.Is("p2c", "turret.P2C")
				d.Gauge("endpoints_in_use", "{endpoint}", 5)
				d.Inside(describer(func(d *turret.Description) {
					d.Is("endpoint", "")
					d.Named("10.0.0.1:80")
					d.State("state", "banned")
					d.State("why", "3 failures in a row")
				}))
			})
		}, "10.0.0.1:80 is banned: 3 failures in a row"},
		"no endpoint in use": {func(*testing.T) turret.Describer {
			return describer(func(d *turret.Description) {
				d.Is("p2c", "turret.P2C")
				d.Gauge("endpoints_in_use", "{endpoint}", 0)
			})
		}, "has no endpoint in use"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := New(Config{})
				defer p.Close()
				if got := get(p, "/").Body.String(); !strings.Contains(got, "All quiet") {
					t.Errorf("an empty page is not quiet: %s", got)
				}
				p.Add("front", c.make(t))
				time.Sleep(2 * time.Second)
				if got := first(t, p); !strings.Contains(got, c.want) {
					t.Errorf("first line %q, want one with %q", got, c.want)
				}
				if got := get(p, "/").Body.String(); strings.Contains(got, "All quiet") || !strings.Contains(got, "<title>(1)") {
					t.Errorf("the page is quiet: %s", got)
				}
			})
		})
	}
}

// TestRefusals checks the rate of refusals, their reason and the last method.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		stack := interceptors.New(p.Layer(), interceptors.Named("door", interceptors.RateLimit(limit.Rate{N: 1, Per: time.Hour}, limit.Queue{})))
		p.Add("front", stack)
		time.Sleep(time.Second)
		call(stack, "/s.S/First", nil)
		for range 10 {
			time.Sleep(100 * time.Millisecond)
			call(stack, "/s.S/Refused", nil)
		}
		time.Sleep(100 * time.Millisecond)
		v := p.View()
		if got := first(t, p); !strings.Contains(got, "front › door refuses") || !strings.Contains(got, turret.ReasonRateLimited) {
			t.Errorf("first line %q", got)
		}
		if len(v.Events) != 1 || v.Events[0].Ever < 9 || v.Events[0].Last.Method != "/s.S/Refused" {
			t.Errorf("events %+v", v.Events)
		}
		time.Sleep(5 * time.Second)
		v = p.View()
		if len(v.Findings) != 0 {
			t.Errorf("still found: %+v", v.Findings)
		}
		if got := v.Events[0].LastMinute; got < 9 || got > 10 {
			t.Errorf("%v in the last minute, want 9 or 10", got)
		}
		methods := map[string]Method{}
		for _, m := range v.Methods {
			methods[m.Method] = m
		}
		if m := methods["s.S/Refused"]; m.Calls != 10 || m.Codes["RESOURCE_EXHAUSTED"] != 10 || m.Failed == 0 || m.InFlight != 0 {
			t.Errorf("method %+v", m)
		}
	})
}

// call makes a unary RPC on the server side of a stack.
func call(s *interceptors.Stack, method string, handler func()) {
	_, _ = s.UnaryServer()(context.Background(), "request", &grpc.UnaryServerInfo{FullMethod: method}, func(context.Context, any) (any, error) {
		if handler != nil {
			handler()
		}
		return "reply", nil
	})
}

// TestLayerCountsEveryEnd checks success, failure, panic and Goexit.
func TestLayerCountsEveryEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		stack := interceptors.New(p.Layer())
		call(stack, "/s.S/M", func() { time.Sleep(10 * time.Millisecond) })
		func() {
			defer func() { _ = recover() }()
			call(stack, "/s.S/M", func() { panic("boom") })
		}()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			call(stack, "/s.S/M", runtime.Goexit)
		}()
		<-ended
		m := p.View().Methods
		if len(m) != 1 || m[0].Calls != 3 || m[0].InFlight != 0 || m[0].Codes["UNKNOWN"] != 2 {
			t.Errorf("methods %+v, want three calls, two of them UNKNOWN", m)
		}
		if m[0].P99 < 0.008 || m[0].P99 > 0.012 {
			t.Errorf("p99 is %v s, want about 0.01", m[0].P99)
		}
	})
}

type sleeper struct{ _ int }

func (*sleeper) Describe(*turret.Description) { time.Sleep(time.Second) }

func TestHostileDescribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		child := describer(func(d *turret.Description) { d.Is("child", "<script>alert(1)</script>") })
		p.Add("<b>panics", describer(func(*turret.Description) { panic("<i>boom") }))
		p.Add("blocks", &sleeper{})
		p.Add("many", describer(func(d *turret.Description) {
			d.Is("many", "many")
			for range 1_000_000 {
				d.Inside(child)
			}
		}))
		time.Sleep(5 * time.Second)
		body := get(p, "/").Body.String()
		for _, want := range []string{"panicked: &lt;i&gt;boom", "no answer", "more, not shown"} {
			if want == "no answer" && strings.Contains(body, "not asked: has not answered") {
				continue
			}
			if !strings.Contains(body, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
		for _, bad := range []string{"<script>alert", "<i>boom", "<b>panics"} {
			if strings.Contains(body, bad) {
				t.Errorf("the page has %q", bad)
			}
		}
		if len(body) > 150_000 {
			t.Errorf("the page has %d bytes", len(body))
		}
		time.Sleep(5 * time.Second) // for the Describer that blocks
	})
}

func TestHostileMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		stack := interceptors.New(p.Layer())
		for i := range 10_000 {
			call(stack, fmt.Sprintf("/s.S/<img src=x onerror=alert(%d)>", i), nil)
		}
		call(stack, strings.Repeat("x", 1<<20), nil)
		time.Sleep(2 * time.Second)
		v := p.View()
		if len(v.Methods)+v.MoreMethods > 201 {
			t.Errorf("%d methods, want at most 201", len(v.Methods)+v.MoreMethods)
		}
		calls := uint64(0)
		for _, m := range v.Methods {
			calls += m.Calls
		}
		if calls < 9801 {
			t.Errorf("%d calls are listed, want those of _OTHER too", calls)
		}
		if got := first(t, p); !strings.Contains(got, "are more than 200") {
			t.Errorf("first line %q", got)
		}
		if body := get(p, "/").Body.String(); strings.Contains(body, "<img") || len(body) > 150_000 {
			t.Errorf("the page has markup of methods, or %d bytes", len(body))
		}
	})
}

func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{Title: "shop & <co>"})
		defer p.Close()
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "TRACE"} {
			w := httptest.NewRecorder()
			p.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), method, "/", nil))
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s: status %d", method, w.Code)
			}
		}
		for target, kind := range map[string]string{
			"/": "text/html; charset=utf-8", "/?format=json": "application/json", "/?file=page.css": "text/css; charset=utf-8",
			"/?file=page.js": "text/javascript; charset=utf-8", "/?file=icon.svg": "image/svg+xml",
		} {
			w := get(p, target)
			h := w.Header()
			if w.Code != http.StatusOK || h.Get("Content-Type") != kind || h.Get("X-Content-Type-Options") != "nosniff" ||
				h.Get("Cache-Control") != "no-store" || strings.Contains(h.Get("Content-Security-Policy"), "unsafe") {
				t.Errorf("%s: status %d, header %v", target, w.Code, h)
			}
		}
		for _, target := range []string{"/?file=../page.go", "/?format=xml"} {
			if w := get(p, target); w.Code != http.StatusNotFound {
				t.Errorf("%s: status %d, want 404", target, w.Code)
			}
		}
		if body := get(p, "/").Body.String(); !strings.Contains(body, "shop &amp; &lt;co&gt;") || strings.Contains(body, "style=") || strings.Contains(body, "<style") {
			t.Errorf("the page: %s", body)
		}
		head := httptest.NewRecorder()
		p.ServeHTTP(head, httptest.NewRequestWithContext(context.Background(), http.MethodHead, "/", nil))
		if head.Code != http.StatusOK || head.Body.Len() != 0 {
			t.Errorf("HEAD: status %d, %d bytes", head.Code, head.Body.Len())
		}
		var v View
		if err := json.Unmarshal(get(p, "/?format=json").Body.Bytes(), &v); err != nil || v.Title != "shop & <co>" || len(v.Totals) != 6 {
			t.Errorf("JSON: %+v, error %v", v, err)
		}
	})
}

func TestCompressedAndJSONByHeader(t *testing.T) {
	p := New(Config{})
	defer p.Close()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("Accept", "application/json")
	for i := range 10 {
		p.Add("stack with a long name", interceptors.New(interceptors.Recover(), interceptors.Timeout(time.Duration(i+1))))
	}
	p.ServeHTTP(w, r)
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(z)
	if err != nil || !json.Valid(body) {
		t.Errorf("%q, error %v, want JSON", body, err)
	}
}

// TestSharedGate checks that what stands in two places of a stack is found, and its
// refusals are counted, once.
func TestSharedGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		gate := limit.NewConcurrency(1, limit.Queue{})
		if _, err := gate.TryEnter(t.Context()); err != nil {
			t.Fatal(err)
		}
		stack := interceptors.New(interceptors.For("/a/*", interceptors.Admit(gate)), interceptors.For("/b/*", interceptors.Admit(gate)))
		p.Add("front", stack)
		call(stack, "/b/M", nil)
		time.Sleep(2 * time.Second)
		v := p.View()
		if len(v.Findings) != 1 || len(v.Events) != 1 || v.Events[0].Ever != 1 {
			t.Errorf("findings %+v, events %+v, want one of each", v.Findings, v.Events)
		}
		if body := get(p, "/").Body.String(); !strings.Contains(body, "shared: its figures are elsewhere") {
			t.Errorf("the page: %s", body)
		}
	})
}

func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		var state atomic.Value
		state.Store("closed")
		p.Add("front", describer(func(d *turret.Description) {
			d.Is("breaker", "breaker")
			d.State("state", state.Load().(string))
		}))
		time.Sleep(2 * time.Second)
		state.Store("open")
		time.Sleep(2 * time.Second)
		state.Store("closed")
		time.Sleep(2 * time.Second)
		if c := p.View().Changes; len(c) != 2 || c[1].What != "open" || !c[1].Bad || c[0].What != "closed" || c[0].Bad {
			t.Errorf("changes %+v, want open, and then closed before it", c)
		}
	})
}

func TestStoodStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		p.late(time.Now(), 340*time.Millisecond)
		time.Sleep(time.Second)
		if got := first(t, p); !strings.Contains(got, "stood still for 340 ms") {
			t.Errorf("first line %q", got)
		}
		time.Sleep(2 * time.Minute)
		if v := p.View(); len(v.Findings) != 0 {
			t.Errorf("still found: %+v", v.Findings)
		}
	})
}

func TestValidate(t *testing.T) {
	for _, c := range []Config{
		{Interval: -1},
		{Interval: time.Millisecond},
		{Keep: time.Millisecond},
		{Keep: 2 * time.Hour},
		{Endpoints: -1},
		{Endpoints: 1001},
		{Methods: -1},
		{Methods: 1001},
		{Title: strings.Repeat("x", 201)},
		{Accept: make([]string, 101)},
	} {
		if wrong, ok := errors.AsType[*turret.FieldError](c.Validate()); !ok || wrong.Package != "statusz" {
			t.Errorf("%+v: %v", c, c.Validate())
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
}

func TestCurve(t *testing.T) {
	h := newHistory(100)
	now := time.Unix(0, 0)
	var s *series
	for i := range 250 {
		h.begin(now.Add(time.Duration(i) * time.Second))
		_, s = h.count("c", float64(i*3))
	}
	if got := s.at(0); got != 3 {
		t.Errorf("rate %v, want 3", got)
	}
	if got, want := s.path(100), "M0 25V2h98V25"; got != want {
		t.Errorf("path %q, want %q", got, want)
	}
	for range 40 {
		h.begin(now)
	}
	if len(h.all) != 0 {
		t.Error("a curve that is not seen any more is kept")
	}
}
