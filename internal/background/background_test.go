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
	old := slog.Default()
	defer slog.SetDefault(old)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
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
			if logged := strings.Contains(log.String(), "secret") && strings.Contains(log.String(), "the test"); logged != tt.logged {
				t.Errorf("logged %q, want the panic in it: %t", &log, tt.logged)
			}
		})
	}
}
