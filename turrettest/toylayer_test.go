package turrettest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

// The ways to write a layer wrong, and the case of the suite that has to find
// each.
var layerFaults = map[fault]string{
	"calls the inner service twice":            "passes calls on",
	"does not call the inner service":          "passes calls on",
	"sends another request":                    "passes calls on",
	"loses the result":                         "passes calls on",
	"calls again later":                        "passes calls on",
	"waits before the call":                    "passes calls on",
	"leaves a goroutine behind":                "passes calls on",
	"sends again when it takes long":           "passes slow calls on",
	"loses the error":                          "passes errors on",
	"makes a failure a refusal":                "passes errors on",
	"keeps its place after an error":           "passes errors on",
	"tells a refusal as text":                  "passes refusals on",
	"retries, and says that nothing was sent":  "says what was sent",
	"does not pass the end of the context on":  "ends with its context",
	"keeps its place when cancelled":           "ends with its context",
	"leaves the inner call behind":             "waits for the inner call",
	"leaves the inner call behind after a day": "waits for the inner call",
	"loses the values of the context":          "passes calls on",
	"loses the deadline":                       "keeps the deadline",
	"sends although the context has ended":     "looks at an ended context",
	"swallows panics":                          "passes panics on",
	"panics with a text of its own":            "passes panics on",
	"keeps its place after a panic":            "passes panics on",
	"keeps its place after Goexit":             "passes Goexit on",
	"calls on another goroutine":               "passes Goexit on",
	"calls the first service only":             "wraps each service for itself",
	"mixes results up":                         "works concurrently",
	"Ready takes a place":                      "ready",
	"Ready calls":                              "ready",
	"Ready says no":                            "ready",
	"Ready says yes":                           "not ready",
	"Ready fails for good at once":             "not ready",
	"Ready does not look at the context":       "not ready",
	"refuses with a plain error":               "waits for room",
	"says that a waiting request was sent":     "waits for room",
	"hides that the service has failed":        "fails for good",
	"swallows panics of Ready":                 "passes panics of Ready on",
}

// A toyLayer has room for three calls at a time, and one fault, if any.
type toyLayer struct {
	fault fault
	inner service

	places chan struct{}
	mu     sync.Mutex
	last   string
}

func newToyLayer(f fault) layer {
	var once service
	return func(inner service) service {
		if f == "calls the first service only" {
			if once == nil {
				once = inner
			}
			inner = once
		}
		return &toyLayer{fault: f, inner: inner, places: make(chan struct{}, 3)}
	}
}

var errToyFull = &turret.Refusal{Layer: "toy", Reason: turret.ReasonLimitFull}

func (l *toyLayer) Ready(ctx context.Context) error {
	switch l.fault {
	case "Ready takes a place":
		select {
		case l.places <- struct{}{}:
		default:
		}
	case "Ready calls":
		_, _ = l.inner.Call(ctx, "")
	case "Ready says no":
		return turret.ErrNotReady
	case "Ready says yes":
		return nil
	case "Ready fails for good at once":
		if turret.ReadyNow(l.inner) != nil {
			return errPlain
		}
	case "Ready does not look at the context":
		ctx = context.WithoutCancel(ctx)
	case "hides that the service has failed":
		if err := l.inner.Ready(ctx); err != nil {
			return turret.NotReady(err)
		}
	case "swallows panics of Ready":
		defer func() { _ = recover() }()
	}
	return l.inner.Ready(ctx)
}

func (l *toyLayer) Call(ctx context.Context, req string) (res string, err error) {
	select {
	case l.places <- struct{}{}:
	default:
		return "", errToyFull
	}
	returned := false
	defer func() {
		switch {
		case returned && err != nil && l.fault == "keeps its place after an error":
		case returned && ctx.Err() != nil && l.fault == "keeps its place when cancelled":
		case !returned && strings.HasPrefix(string(l.fault), "keeps its place after") && l.fault != "keeps its place after an error":
			p := recover()
			if (p == nil) != (l.fault == "keeps its place after Goexit") {
				<-l.places
			}
			if p != nil {
				panic(p)
			}
		default:
			<-l.places
		}
	}()
	res, err = l.pass(ctx, req)
	returned = true
	return res, err
}

// pass calls the inner service, one way or another.
func (l *toyLayer) pass(ctx context.Context, req string) (string, error) {
	switch l.fault {
	case "does not call the inner service":
		return response(0), nil
	case "sends another request":
		return l.inner.Call(ctx, "another")
	case "waits before the call":
		<-time.NewTimer(time.Millisecond).C
	case "does not pass the end of the context on", "sends although the context has ended":
		if l.fault == "does not pass the end of the context on" || ctx.Err() != nil {
			ctx = context.WithoutCancel(ctx)
		}
	case "loses the values of the context":
		ctx = context.Background()
	case "loses the deadline":
		inside, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		ctx = inside
	case "sends again when it takes long":
		var again sync.WaitGroup
		defer again.Wait()
		timer := time.AfterFunc(time.Millisecond, func() { again.Go(func() { _, _ = l.inner.Call(ctx, req) }) })
		defer timer.Stop()
	case "leaves the inner call behind", "leaves the inner call behind after a day", "calls on another goroutine":
		return l.aside(ctx, req)
	case "swallows panics", "panics with a text of its own":
		defer func() {
			if p := recover(); p != nil && l.fault != "swallows panics" {
				panic(fmt.Sprint("toy: ", p))
			}
		}()
	case "refuses with a plain error":
		if turret.ReadyNow(l.inner) != nil {
			return "", errPlain
		}
	}
	return l.after(ctx, req)
}

// after makes something of what the inner call came to.
func (l *toyLayer) after(ctx context.Context, req string) (string, error) {
	res, err := l.inner.Call(ctx, req)
	_, refused := errors.AsType[*turret.Refusal](err)
	switch l.fault {
	case "calls the inner service twice":
		return l.inner.Call(ctx, req)
	case "loses the result":
		return "", err
	case "calls again later":
		time.AfterFunc(time.Hour, func() { _, _ = l.inner.Call(ctx, req) })
	case "leaves a goroutine behind":
		go func() { <-make(chan struct{}) }()
	case "loses the error":
		return res, nil
	case "makes a failure a refusal":
		if err != nil {
			return "", turret.NotReady(err)
		}
	case "tells a refusal as text":
		if refused {
			return "", fmt.Errorf("toy: %s", err.Error())
		}
	case "retries, and says that nothing was sent":
		for range 2 {
			if err != nil && ctx.Err() == nil {
				res, err = l.inner.Call(ctx, req)
			}
		}
	case "says that a waiting request was sent":
		return res, turret.Sent(err)
	case "mixes results up":
		l.mu.Lock()
		l.last = res
		l.mu.Unlock()
		<-time.NewTimer(time.Millisecond).C // the others come
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.last, err
	}
	return res, err
}

// aside calls the inner service on a goroutine of its own.
func (l *toyLayer) aside(ctx context.Context, req string) (res string, err error) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer func() {
			if p := recover(); p != nil {
				err = errPlain
			}
		}()
		res, err = l.inner.Call(ctx, req)
	}()
	patience := ctx.Done()
	switch l.fault {
	case "leaves the inner call behind after a day":
		day, cancel := context.WithTimeout(context.WithoutCancel(ctx), 23*time.Hour)
		defer cancel()
		patience = day.Done()
	case "calls on another goroutine":
		patience = nil
	}
	select {
	case <-over:
		return res, err
	case <-patience:
		return "", context.Canceled
	}
}

var toyTraits = traits{Request: request, Response: response}

func TestLayerOfAToy(t *testing.T) {
	turrettest.TestLayer(t, func(*testing.T) layer { return newToyLayer("") }, toyTraits)
}

// TestFaultyLayer is run by TestLayerFindsFaults, in a process of its own: it is
// there to fail.
func TestFaultyLayer(t *testing.T) {
	f := fault(os.Getenv(faultVariable))
	name, ok := layerFaults[f]
	if !ok {
		t.Skip("runs in a process of its own")
	}
	toyTraits := toyTraits
	toyTraits.Repeats = name == "says what was sent"
	turrettest.TestLayer(t, func(*testing.T) layer { return newToyLayer(f) }, toyTraits)
}

// TestLayerFindsFaults checks that each fault makes the case fail that is about
// it, and that a case that fails says which rule was broken.
func TestLayerFindsFaults(t *testing.T) {
	for f, name := range layerFaults {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			run := "^TestFaultyLayer$/^" + strings.ReplaceAll(name, " ", "_") + "$"
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run="+run)
			cmd.Env = append(os.Environ(), faultVariable+"="+string(f))
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("the suite found no fault")
			}
			found := strings.Contains(string(out), "--- FAIL: TestFaultyLayer/"+strings.ReplaceAll(name, " ", "_"))
			if !found || !strings.Contains(string(out), "the rule: ") {
				t.Errorf("case %q found it: %t:\n%s", name, found, out)
			}
		})
	}
}
