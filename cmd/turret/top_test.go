package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/statusz"
)

func TestTopPrintsThePageOnce(t *testing.T) {
	page := statusz.New(statusz.Config{Title: "checkout"})
	defer page.Close()
	full := limit.NewConcurrency(1, limit.Queue{})
	if _, err := full.TryEnter(t.Context()); err != nil {
		t.Fatal(err)
	}
	page.Add("front\x1b[2J", interceptors.New(interceptors.Admit(full)))
	server := httptest.NewServer(page)
	defer server.Close()
	var out, errs bytes.Buffer
	if status := run(t.Context(), streams{&out, &errs}, []string{"top", server.URL}); status != 0 {
		t.Fatalf("exit status %d: %s", status, &errs)
	}
	for _, want := range []string{"checkout", "! front?[2J", "is full: 1 of 1 in flight", "calls 0/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("control characters in %q", &out)
	}
}

func TestTopSaysWhatIsWrong(t *testing.T) {
	notFound := httptest.NewServer(http.NotFoundHandler())
	defer notFound.Close()
	for _, args := range [][]string{{"top"}, {"top", "-every", "1ms", "http://x"}, {"top", "localhost"}, {"top", notFound.URL}, {"top", "-x"}} {
		var out, errs bytes.Buffer
		if status := run(t.Context(), streams{&out, &errs}, args); status != 2 || errs.Len() == 0 {
			t.Errorf("%v: exit status %d, message %q, want 2 and a message", args, status, &errs)
		}
	}
}

// TestTopEnds checks that each of the ways to end it leaves the alternate screen
// and shows the cursor.
func TestTopEnds(t *testing.T) {
	for name, end := range map[string]func(keys io.WriteCloser, cancel func()){
		"q":        func(keys io.WriteCloser, _ func()) { _, _ = keys.Write([]byte("xq")) },
		"Ctrl-C":   func(keys io.WriteCloser, _ func()) { _, _ = keys.Write([]byte{3}) },
		"no input": func(keys io.WriteCloser, _ func()) { _ = keys.Close() },
		"signal":   func(_ io.WriteCloser, cancel func()) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				looks, width := 0, 80
				shown := &top{every: time.Second, out: &out, size: func() (int, int) { return width, 5 }}
				shown.look = func(context.Context) (statusz.View, error) {
					if looks++; looks == 2 {
						return statusz.View{}, errors.New("no answer")
					}
					return statusz.View{Title: "checkout", Stacks: []statusz.Part{{Title: strings.Repeat("x", 200)}}}, nil
				}
				ctx, cancel := context.WithCancel(t.Context())
				keys, typed := io.Pipe()
				defer func() { _ = keys.Close() }()
				ended := make(chan error)
				go func() { ended <- shown.run(ctx, keys) }()
				time.Sleep(2500 * time.Millisecond)
				end(typed, cancel)
				if err := <-ended; err != nil {
					t.Error(err)
				}
				cancel()
				text := out.String()
				if looks != 3 || !strings.HasPrefix(text, "\x1b[?1049h\x1b[?25l") || !strings.HasSuffix(text, "\x1b[?25h\x1b[?1049l") || !strings.Contains(text, "no answer") {
					t.Errorf("%d looks drew %q", looks, text)
				}
			})
		})
	}
}

func TestTopFitsTheTerminal(t *testing.T) {
	var out bytes.Buffer
	shown := &top{out: &out, size: func() (int, int) { return 10, 4 }}
	shown.draw(lines(statusz.View{Title: strings.Repeat("x", 50), Totals: []statusz.Total{{Name: turret.Setting.String()}}}))
	rows := strings.Split(out.String(), "\r\n")
	if len(rows) > 4 {
		t.Errorf("%d rows on a terminal of 4", len(rows))
	}
	for _, row := range rows {
		row = strings.NewReplacer("\x1b[H", "", "\x1b[K", "", "\x1b[J", "").Replace(row)
		if len(row) > 10 {
			t.Errorf("row %q on a terminal of 10 columns", row)
		}
	}
}
