package interceptors_test

import (
	"testing"

	"github.com/turret-go/turret/interceptors"
)

// A Stack that New has not made says so where it is used, not at the first RPC.
func TestZeroStack(t *testing.T) {
	for method, f := range map[string]func(*interceptors.Stack){
		"ServerOptions": func(s *interceptors.Stack) { s.ServerOptions() },
		"DialOptions":   func(s *interceptors.Stack) { s.DialOptions() },
		"UnaryServer":   func(s *interceptors.Stack) { s.UnaryServer() },
		"StreamServer":  func(s *interceptors.Stack) { s.StreamServer() },
		"UnaryClient":   func(s *interceptors.Stack) { s.UnaryClient() },
		"StreamClient":  func(s *interceptors.Stack) { s.StreamClient() },
	} {
		for name, s := range map[string]*interceptors.Stack{"zero": {}, "nil": nil} {
			want := `interceptors: Stack.` + method + `: stack is "the zero Stack", must be made by New`
			if got, _ := panicOf(func() { f(s) }); got != want {
				t.Errorf("%s of a %s stack panics with %q, want %q", method, name, got, want)
			}
		}
	}
	interceptors.New().ServerOptions()
}
