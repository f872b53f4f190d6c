package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// In virtual time: under the surge a server with nothing answers hardly any call in
// time, and one with AdaptiveLimit most of what it can.
func TestSurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		contestants, stop, err := start(nil)
		if err != nil {
			t.Fatal(err)
		}
		send(t.Context(), 12*time.Second, contestants)
		stop()
		time.Sleep(time.Minute) // what still runs ends
		share := func(i, phase int) float64 {
			c := contestants[i]
			return float64(c.in[phase].Load()) / float64(min(c.asked[phase].Load(), 4*200))
		}
		if nothing, ours := share(0, 1), share(2, 1); nothing > 0.5 || ours < 0.9 {
			t.Errorf("answered in the surge, of what a server can: %.2f with nothing, %.2f with AdaptiveLimit", nothing, ours)
		}
		if before, after := share(2, 0), share(2, 2); before < 0.99 || after < 0.95 {
			t.Errorf("answered by AdaptiveLimit: %.2f before the surge, %.2f after it", before, after)
		}
	})
}

func TestRunPrintsATable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(t.Context(), []string{"-for", "3s"}, &out, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		for _, want := range []string{"nothing", "fixed limit of 100", "AdaptiveLimit", "SURGE: ANSWERED"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the table has no %q:\n%s", want, out.String())
			}
		}
	})
}

// The status page shows the three servers while they run.
func TestPage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &pageReader{t: t, then: cancel}
	if err := run(ctx, []string{"-http", "localhost:0", "-for", "1h"}, out, false); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for _, want := range []string{"nothing", "fixed limit of 100", "AdaptiveLimit"} {
		if !strings.Contains(out.page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

// pageReader reads the page once the output says where it is, and then calls then.
type pageReader struct {
	t    *testing.T
	page string
	then func()
}

func (r *pageReader) Write(b []byte) (int, error) {
	if _, url, ok := strings.Cut(string(b), "page is at "); ok {
		r.page = get(r.t, strings.TrimSpace(url))
		r.then()
	}
	return len(b), nil
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read already
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestRunNamesWrongArguments(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-for", "1s"}, "-for is 1s"},
		{[]string{"now"}, `unexpected argument "now"`},
	} {
		err := run(t.Context(), tt.args, &bytes.Buffer{}, false)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.args, err, tt.want)
		}
	}
}
