package interceptors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

// A logged line as a handler writes it.
type loggedLine struct {
	Level, Msg string
	Count      int
	Event      struct {
		Kind, Layer, Reason string
		RPC                 struct{ Method string }
	}
}

// logLines parses what a JSON handler wrote.
func logLines(t *testing.T, text string) (lines []loggedLine) {
	t.Helper()
	for d := json.NewDecoder(strings.NewReader(text)); d.More(); {
		var line loggedLine
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	return lines
}

// A lockedBuffer may be written by several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newLog(c interceptors.LogConfig, level slog.Level) (*lockedBuffer, func(context.Context, interceptors.Event)) {
	out := new(lockedBuffer)
	return out, interceptors.Log(slog.New(slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level})), c)
}

var refusedEvent = interceptors.Event{
	Kind: interceptors.EventRefused, Layer: "limit", Reason: turret.ReasonLimitFull, Err: errors.New("full"),
	RPC: &interceptors.RPC{Method: "/a.B/C", Request: "a secret"},
}

// TestLogCountsEachEvent has 84,000 refusals in 350 ms, from several goroutines,
// and then a quiet time: few lines, whose counts add up.
func TestLogCountsEachEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := newLog(interceptors.LogConfig{}, slog.LevelInfo)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 350 {
					for range 60 {
						log(t.Context(), refusedEvent)
					}
					time.Sleep(time.Millisecond)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Minute)
		lines := logLines(t, out.String())
		sum := 0
		for _, l := range lines {
			sum += l.Count
			if l.Level != "WARN" || l.Event.Layer != "limit" || l.Event.Reason != "LIMIT_FULL" || l.Event.RPC.Method != "/a.B/C" {
				t.Errorf("a line says %+v", l)
			}
		}
		if sum != 84_000 || len(lines) != 2 || lines[0].Count != 1 {
			t.Errorf("%d lines that count %d events, want 2 for 84000, the first at once", len(lines), sum)
		}
		if strings.Contains(out.String(), "secret") {
			t.Error("a request is logged")
		}
	})
}

func TestLogHasALineEachPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := newLog(interceptors.LogConfig{Every: time.Second}, slog.LevelInfo)
		for range 100 { // for 10 s
			log(t.Context(), refusedEvent)
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		log(t.Context(), refusedEvent) // at once again, after the quiet time
		lines := logLines(t, out.String())
		sum := 0
		for _, l := range lines {
			sum += l.Count
		}
		if sum != 101 || len(lines) < 11 || len(lines) > 13 || lines[len(lines)-1].Count != 1 {
			t.Errorf("%d lines that count %d events, want one a second for 101", len(lines), sum)
		}
		time.Sleep(time.Minute)
	})
}

func TestLogLevels(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := newLog(interceptors.LogConfig{}, slog.LevelDebug)
		for kind := interceptors.EventRefused; kind <= interceptors.EventEnd; kind++ {
			log(t.Context(), interceptors.Event{Kind: kind, Layer: "x"})
		}
		var got strings.Builder
		for _, l := range logLines(t, out.String()) {
			got.WriteString(l.Event.Kind + " " + l.Level + ", ")
		}
		for _, want := range []string{"refused WARN, ", "retry INFO, ", "hedge DEBUG, ", "timeout WARN, ", "panic ERROR, ", "shadow WARN, "} {
			if !strings.Contains(got.String(), want) {
				t.Errorf("levels %s, want %s among them", got.String(), want)
			}
		}
		if strings.Contains(got.String(), "end") {
			t.Errorf("levels %s: ends are not to be logged", got.String())
		}
		time.Sleep(time.Minute)
	})
}

// TestLogIsBounded has reasons without end, as a layer of a user's own may make
// them: those that are too many share a line.
func TestLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, log := newLog(interceptors.LogConfig{Most: 5}, slog.LevelInfo)
		for i := range 1000 {
			e := refusedEvent
			e.Reason = fmt.Sprint("REASON_", i)
			log(t.Context(), e)
		}
		time.Sleep(time.Minute)
		sum, lines := 0, logLines(t, out.String())
		for _, l := range lines {
			sum += l.Count
		}
		if sum != 1000 || len(lines) > 8 {
			t.Errorf("%d lines that count %d events, want few for 1000", len(lines), sum)
		}
	})
}

func TestLogAllocatesNothingWhileQuiet(t *testing.T) {
	_, log := newLog(interceptors.LogConfig{Every: time.Hour}, slog.LevelInfo)
	ctx := context.Background()
	log(ctx, refusedEvent)
	log(ctx, refusedEvent)
	if n := testing.AllocsPerRun(1000, func() { log(ctx, refusedEvent) }); n != 0 {
		t.Errorf("an event that is counted allocates %v times, want 0", n)
	}
}

func TestLogConfigIsChecked(t *testing.T) {
	for want, c := range map[string]interceptors.LogConfig{
		"interceptors: Every is 1ms, must be at least 10ms, or 0 for 10s": {Every: time.Millisecond},
		"interceptors: Most is -1, must be between 0 (for 100) and 10000": {Most: -1},
	} {
		err := c.Validate()
		if _, ok := errors.AsType[*turret.FieldError](err); !ok || err.Error() != want {
			t.Errorf("Validate: %v, want %s", err, want)
		}
	}
}
