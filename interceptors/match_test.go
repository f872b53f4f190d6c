package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	middleware "github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
)

// passes reports whether an RPC of this method and kind runs through layers
// that stand where f puts them.
func passes(f func(layers ...interceptors.Layer) interceptors.Layer, rpc *interceptors.RPC) bool {
	hit := false
	mark := turret.Wrap(func(context.Context, *interceptors.RPC, interceptors.Service) (any, error) {
		hit = true
		return nil, nil //nolint:nilnil // of a stack whose results are not read
	})
	end := turret.ServiceFunc(func(context.Context, *interceptors.RPC) (any, error) { return nil, nil }) //nolint:nilnil // as above
	_, _ = f(mark)(end).Call(context.Background(), rpc)
	return hit
}

func TestPatterns(t *testing.T) {
	methods := []string{"/a.B/C", "/a.B/D", "/a.BB/C", "/a/B", "/a.B", "/", "", "a.B/C", "/a.B/C/D", "/a.b/c"}
	for _, tt := range []struct {
		pattern string
		want    []string
	}{
		{"/a.B/C", []string{"/a.B/C", "a.B/C"}},
		{"/a.B/*", []string{"/a.B/C", "/a.B/D", "a.B/C"}},
		{"/*", methods},
	} {
		for _, m := range methods {
			rpc, want := &interceptors.RPC{Method: m}, slices.Contains(tt.want, m)
			forPattern := func(l ...interceptors.Layer) interceptors.Layer { return interceptors.For(tt.pattern, l...) }
			except := func(l ...interceptors.Layer) interceptors.Layer { return interceptors.Except(tt.pattern, l...) }
			if got := passes(forPattern, rpc); got != want {
				t.Errorf("For(%q) lets %q in: %v, want %v", tt.pattern, m, got, want)
			}
			if got := passes(except, rpc); got == want {
				t.Errorf("Except(%q) lets %q in: %v, want %v", tt.pattern, m, got, !want)
			}
		}
	}
}

func TestForKind(t *testing.T) {
	for _, of := range [][]interceptors.Kind{kinds[:1], kinds[1:], {interceptors.KindBidiStream, interceptors.KindUnary}, kinds} {
		for _, k := range kinds {
			got := passes(func(l ...interceptors.Layer) interceptors.Layer { return interceptors.ForKind(of, l...) }, &interceptors.RPC{Kind: k})
			if want := slices.Contains(of, k); got != want {
				t.Errorf("ForKind(%v) lets %v in: %v, want %v", of, k, got, want)
			}
		}
	}
}

// A matcher of go-grpc-middleware sees of an RPC what it would see in an
// interceptor of its own.
func TestForMatch(t *testing.T) {
	for _, tt := range []struct {
		rpc  interceptors.RPC
		want middleware.CallMeta
	}{
		{
			interceptors.RPC{Method: "/a.B/C", Kind: interceptors.KindUnary, Side: interceptors.SideClient, Request: 1},
			middleware.CallMeta{ReqOrNil: 1, Typ: middleware.Unary, Service: "a.B", Method: "C", IsClient: true},
		},
		{
			interceptors.RPC{Method: "/a.B/C", Kind: interceptors.KindClientStream, Side: interceptors.SideServer},
			middleware.CallMeta{Typ: middleware.ClientStream, Service: "a.B", Method: "C"},
		},
		{
			interceptors.RPC{Method: "/a.B/C", Kind: interceptors.KindServerStream, Side: interceptors.SideServer},
			middleware.CallMeta{Typ: middleware.ServerStream, Service: "a.B", Method: "C"},
		},
		{
			interceptors.RPC{Method: "odd", Kind: interceptors.KindBidiStream, Side: interceptors.SideServer},
			middleware.CallMeta{Typ: middleware.BidiStream, Service: "odd"},
		},
	} {
		for _, match := range []bool{false, true} {
			matcher := selector.MatchFunc(func(_ context.Context, c middleware.CallMeta) bool {
				if c != tt.want {
					t.Errorf("a matcher sees %+v, want %+v", c, tt.want)
				}
				return match
			})
			if got := passes(func(l ...interceptors.Layer) interceptors.Layer { return interceptors.ForMatch(matcher, l...) }, &tt.rpc); got != match {
				t.Errorf("let in: %v, want %v", got, match)
			}
		}
	}
}

// patternForm is the form of a pattern, said in another way than the code does.
var patternForm = regexp.MustCompile(`^/(\*|[^*/]+/(\*|[^*/]+))$`)

// A pattern is of one of the forms or refused, and matches as a comparison with
// what is before its star says.
func FuzzPattern(f *testing.F) {
	for _, p := range []string{"", "/", "/*", "//", "//*", "/a/*", "/a/b", "/a/b/", "/a*/b", "/a/b*", "/a/**", "*", "/a", "a/b", "/a//", "/\x00/\xff", "/a/*\n"} {
		f.Add(p, "/a/b")
		f.Add("/a/*", p)
	}
	f.Fuzz(func(t *testing.T, pattern, method string) {
		valid := patternForm.MatchString(strings.ReplaceAll(pattern, "\n", "x"))
		text, _ := panicOf(func() { interceptors.For(pattern) })
		if (text == "") != valid || text != "" && (!strings.HasPrefix(text, "interceptors: For: pattern is ") || strings.Contains(text, "\n")) {
			t.Fatalf("For(%q) panics with %q", pattern, text)
		}
		if !valid {
			return
		}
		// As gRPC's router reads it: the service ends at the last slash.
		routed := "/" + strings.TrimPrefix(method, "/")
		want := pattern == routed
		if prefix, star := strings.CutSuffix(pattern, "*"); star {
			want = pattern == "/*" || routed[:strings.LastIndex(routed, "/")+1] == prefix && prefix != "/"
		}
		rpc := &interceptors.RPC{Method: method}
		if got := passes(func(l ...interceptors.Layer) interceptors.Layer { return interceptors.For(pattern, l...) }, rpc); got != want {
			t.Errorf("For(%q) lets %q in: %v", pattern, method, got)
		}
	})
}

// Layers of a branch run in their order, between those outside and inside it,
// and branches may stand in branches.
func TestBranchOrder(t *testing.T) {
	var order []string
	layer := func(name string) interceptors.Layer {
		return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
			order = append(order, name)
			return inner.Call(ctx, rpc)
		})
	}
	s := interceptors.New(
		layer("a"),
		interceptors.For("/package.Service/*",
			layer("b"),
			interceptors.ForKind(kinds[1:], layer("streams")),
			interceptors.Except("/package.Service/Other", layer("c"), interceptors.ForMatch(selector.MatchFunc(isClient), layer("d"))),
		),
		interceptors.Except("/package.Service/*", layer("others")),
		layer("e"),
	)
	if err := invoke(t.Context(), s, nil, succeeds); err != nil || !slices.Equal(order, []string{"a", "b", "c", "d", "e"}) {
		t.Errorf("order %v, error %v", order, err)
	}
}

func isClient(_ context.Context, c middleware.CallMeta) bool { return c.IsClient }

// A branch is as ready as what follows it: its own layers do not count.
func TestBranchReadiness(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layers []interceptors.Layer
		ready  bool
	}{
		{"full branch", []interceptors.Layer{interceptors.For("/a/*", full())}, true},
		{"full branch of all methods", []interceptors.Layer{interceptors.For("/*", full())}, true},
		{"full behind it", []interceptors.Layer{interceptors.For("/a/*"), full()}, false},
		{"full before it", []interceptors.Layer{full(), interceptors.For("/a/*")}, false},
		{"Except", []interceptors.Layer{interceptors.Except("/a/*", full())}, true},
		{"ForKind", []interceptors.Layer{interceptors.ForKind(kinds, full())}, true},
		{"ForMatch", []interceptors.Layer{interceptors.ForMatch(selector.MatchFunc(isClient), full())}, true},
		{"Named", []interceptors.Layer{interceptors.Named("n", full())}, false},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := interceptors.New(tt.layers...).Ready(ctx); (err == nil) != tt.ready || err != nil && !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("%s: Ready says %v", tt.name, err)
		}
	}
}

// full is a limit that admits no RPC.
func full() interceptors.Layer { return interceptors.ConcurrencyLimit(0, limit.Queue{}) }

func TestKindAndSideNames(t *testing.T) {
	got := fmt.Sprintf("%v %v %v %v %v", kinds, interceptors.Kind(9), interceptors.SideClient, interceptors.SideServer, interceptors.Side(9))
	if want := "[unary client_stream server_stream bidi_stream] Kind(9) client server Side(9)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A guard of a service does not let a method past that gRPC routes to another one:
// the service of a method ends at its last slash.
func TestPatternsReadMethodsAsTheRouter(t *testing.T) {
	const method = "/grpc.health.v1.Health/pay.Payments/Charge"
	rpc := &interceptors.RPC{Method: method}
	except := func(l ...interceptors.Layer) interceptors.Layer {
		return interceptors.ExceptAny([]string{"/grpc.health.v1.Health/*", "/grpc.reflection.v1.ServerReflection/*"}, l...)
	}
	if !passes(except, rpc) {
		t.Errorf("%s goes past a guard of all but health checks", method)
	}
	var seen middleware.CallMeta
	match := selector.MatchFunc(func(_ context.Context, c middleware.CallMeta) bool { seen = c; return true })
	passes(func(l ...interceptors.Layer) interceptors.Layer { return interceptors.ForMatch(match, l...) }, rpc)
	if seen.Service != "grpc.health.v1.Health/pay.Payments" || seen.Method != "Charge" {
		t.Errorf("a matcher sees service %q, method %q", seen.Service, seen.Method)
	}
}

func TestSeveralPatterns(t *testing.T) {
	patterns := []string{"/a.B/C", "/d.E/*"}
	for method, want := range map[string]bool{"/a.B/C": true, "/d.E/F": true, "/a.B/D": false, "/d/E": false} {
		rpc := &interceptors.RPC{Method: method}
		forAny := func(l ...interceptors.Layer) interceptors.Layer { return interceptors.ForAny(patterns, l...) }
		exceptAny := func(l ...interceptors.Layer) interceptors.Layer { return interceptors.ExceptAny(patterns, l...) }
		if got := passes(forAny, rpc); got != want {
			t.Errorf("ForAny lets %s in: %v", method, got)
		}
		if got := passes(exceptAny, rpc); got == want {
			t.Errorf("ExceptAny lets %s in: %v", method, got)
		}
	}
	for want, f := range map[string]func(){
		`interceptors: ForAny: patterns is [], must be at least one pattern`:                                           func() { interceptors.ForAny(nil) },
		`interceptors: ExceptAny: patterns[1] is "b", must be "/package.Service/Method", "/package.Service/*" or "/*"`: func() { interceptors.ExceptAny([]string{"/*", "b"}) },
		`interceptors: ExceptMatch: matcher is nil, must be non-nil`:                                                   func() { interceptors.ExceptMatch(nil) },
	} {
		if text, _ := panicOf(f); text != want {
			t.Errorf("panics with %s\nwant %s", text, want)
		}
	}
}

func TestForUnaryAndStreams(t *testing.T) {
	for _, k := range kinds {
		rpc := &interceptors.RPC{Kind: k}
		if got := passes(interceptors.ForUnary, rpc); got != (k == interceptors.KindUnary) {
			t.Errorf("ForUnary lets %v in: %v", k, got)
		}
		if got := passes(interceptors.ForStreams, rpc); got == (k == interceptors.KindUnary) {
			t.Errorf("ForStreams lets %v in: %v", k, got)
		}
	}
	never := selector.MatchFunc(func(context.Context, middleware.CallMeta) bool { return false })
	if !passes(func(l ...interceptors.Layer) interceptors.Layer { return interceptors.ExceptMatch(never, l...) }, new(interceptors.RPC)) {
		t.Error("ExceptMatch of nothing lets nothing in")
	}
}
