package limit_test

import (
	"testing"
	"time"

	"github.com/turret-go/turret/limit"
)

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		config interface{ Validate() error }
		want   string
	}{
		"zero queue":       {limit.Queue{}, ""},
		"unbounded queue":  {limit.Queue{Max: limit.Unbounded, Timeout: time.Second}, ""},
		"Queue.Max":        {limit.Queue{Max: -2}, "limit: Max is -2, must be Unbounded (-1) or at least 0"},
		"Queue.Timeout":    {limit.Queue{Max: 1, Timeout: -1}, "limit: Timeout is -1ns, must be at least 0 (0 means no bound)"},
		"no line":          {limit.Queue{Timeout: time.Second}, "limit: Timeout is 1s, must be 0 where Max is 0, which lets no call wait"},
		"rate":             {limit.Rate{N: 1, Per: 1}, ""},
		"rate with burst":  {limit.Rate{N: 1, Per: 1, Burst: 1}, ""},
		"PerSecond":        {limit.PerSecond(1), ""},
		"zero rate":        {limit.Rate{}, "limit: N is 0, must be at least 1"},
		"PerSecond(-3)":    {limit.PerSecond(-3), "limit: N is -3, must be at least 1"},
		"Rate.Per":         {limit.Rate{N: 1}, "limit: Per is 0s, must be above 0"},
		"Rate.Per below 0": {limit.Rate{N: 1, Per: -time.Second}, "limit: Per is -1s, must be above 0"},
		"Rate.Burst":       {limit.Rate{N: 1, Per: 1, Burst: -1}, "limit: Burst is -1, must be at least 0 (0 means N)"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := tt.config.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// wantPanic runs f, which has to panic with a text that is, or an error whose
// text is, want.
func wantPanic(t *testing.T, want string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		got := recover()
		if err, ok := got.(error); ok {
			got = err.Error()
		}
		if got != want {
			t.Errorf("panic %v, want %q", got, want)
		}
	}()
	f()
}
