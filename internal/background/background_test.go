package background_test

import (
	"bytes"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/turret-go/turret/internal/background"
)

func TestGo(t *testing.T) {
	errBroken := errors.New("broken")
	tests := map[string]struct {
		f      func() error
		want   error
		logged bool
	}{
		"returns": {func() error { return nil }, nil, false},
		"fails":   {func() error { return errBroken }, errBroken, false},
		"panics":  {func() error { panic("secret") }, background.ErrPanicked, true},
		"exits":   {func() error { runtime.Goexit(); return nil }, background.ErrExited, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			log := logOf(t)
			var wg sync.WaitGroup
			var got []error
			background.Go(&wg, "the test", tt.f, func(err error) { got = append(got, err) })
			wg.Wait()
			if len(got) != 1 || !errors.Is(got[0], tt.want) {
				t.Fatalf("done with %v, want once with %v", got, tt.want)
			}
			if got[0] != nil && strings.Contains(got[0].Error(), "secret") {
				t.Errorf("%q has the panic's text", got[0])
			}
			if logged := strings.Contains(log(), "secret") && strings.Contains(log(), "the test"); logged != tt.logged {
				t.Errorf("logged %q, want the panic in it: %t", log(), tt.logged)
			}
		})
	}
}

// done, too, may call what panics.
func TestGoDonePanics(t *testing.T) {
	logged := logOf(t)
	var wg sync.WaitGroup
	background.Go(&wg, "the test", func() error { return nil }, func(error) { panic("a fault") })
	wg.Wait()
	if !strings.Contains(logged(), "a fault") {
		t.Errorf("logged %q, want the panic in it", logged())
	}
}

type (
	quiet struct{ closed *int }
	loud  struct{ closed *int }
	bad   struct{}
)

func (q quiet) Close()      { *q.closed++ }
func (l loud) Close() error { *l.closed++; return errors.New("broken") }
func (bad) Close()          { panic("a fault") }

func TestClose(t *testing.T) {
	logged := logOf(t)
	closed := 0
	for _, s := range []any{nil, 1, quiet{&closed}, loud{&closed}} {
		background.Close("the test", s)
	}
	if closed != 2 || logged() != "" {
		t.Errorf("%d closed, want 2; logged %q", closed, logged())
	}
	background.Close("the test", bad{})
	if !strings.Contains(logged(), "a fault") || !strings.Contains(logged(), "the test") {
		t.Errorf("logged %q, want the panic in it", logged())
	}
}

// logOf returns what is logged until the test ends.
func logOf(t *testing.T) (logged func() string) {
	old := slog.Default()
	t.Cleanup(func() { slog.SetDefault(old) })
	var log bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	return log.String
}
