package interceptors

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/grpc/metadata"
)

// carrierKeys are the keys that a program of FuzzCarrier uses, besides its own.
var carrierKeys = []string{"traceparent", "TraceParent", "baggage", "x", "X", "x-bin", "grpc-trace-bin", ""}

// FuzzCarrier writes and reads what a client sends, in any order: a propagator's
// keys take the place of what is there, keys are the same in capitals, and the
// caller's own metadata stays as it is.
func FuzzCarrier(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, "k", "v")
	f.Add([]byte{10, 10, 11, 11}, "K", "\xff")
	f.Add([]byte{0, 0, 1, 8, 9, 0, 16, 24, 1}, "", "")
	f.Add([]byte{20, 22, 3, 23, 6, 5, 7}, "traceparent", "x")
	f.Add([]byte{0, 8, 8, 8}, "ı", "v") // in capitals it is I, which is i otherwise
	f.Fuzz(func(t *testing.T, program []byte, key, value string) {
		if len(program) > 40 || strings.ContainsFunc(key, func(r rune) bool { return r > unicode.MaxASCII }) {
			return // gRPC sends no other keys
		}
		keys, values := append(carrierKeys, key), []string{value, "1", "2", ""}
		var callers []string
		want, before := metadata.MD{}, 0
		if len(program) > 0 {
			before = min(int(program[0])%8, len(program)-1)
			program = program[1:]
		}
		for _, step := range program[:before] {
			k, v := keys[int(step)%len(keys)], values[int(step>>4)%len(values)]
			callers = append(callers, k, v)
			want.Append(k, v)
		}
		was, ctx := want.Copy(), metadata.AppendToOutgoingContext(t.Context(), callers...)
		c := &outgoing{ctx: ctx}
		for _, step := range program[before:] {
			k, v := keys[int(step)%len(keys)], values[int(step>>4)%len(values)]
			c.Set(k, v)
			want.Set(k, v)
			if got := c.Get(k); got != v {
				t.Fatalf("Get(%q) is %q after it was set to %q", k, got, v)
			}
		}
		got, _ := metadata.FromOutgoingContext(c.context())
		if !maps.EqualFunc(got, want, slices.Equal) && len(got)+len(want) > 0 {
			t.Errorf("%q is sent, want %q", got, want)
		}
		if callersNow, _ := metadata.FromOutgoingContext(ctx); !maps.EqualFunc(callersNow, was, slices.Equal) && len(was) > 0 {
			t.Errorf("the caller's metadata is %q now, and was %q", callersNow, was)
		}
		checkKeys(t, c.Keys(), want)
		arrived := incoming{metadata.NewIncomingContext(t.Context(), want)}
		checkKeys(t, arrived.Keys(), want)
		for k, v := range want {
			if !slices.Equal(arrived.Values(k), v) || arrived.Get(strings.ToUpper(k)) != v[0] {
				t.Errorf("%q arrives as %q, want %q", k, arrived.Values(k), v)
			}
		}
	})
}

func checkKeys(t *testing.T, got []string, want metadata.MD) {
	t.Helper()
	slices.Sort(got)
	if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("the keys are %q, want those of %q", got, want)
	}
}

// Without metadata there is nothing to read.
func TestCarriersOfNothing(t *testing.T) {
	if in := (incoming{t.Context()}); in.Get("x") != "" || in.Values("x") != nil || len(in.Keys()) != 0 {
		t.Error("something is read from no metadata")
	}
	if out := (&outgoing{ctx: t.Context()}); out.Get("x") != "" || len(out.Keys()) != 0 || out.context() != t.Context() {
		t.Error("something is sent though nothing was set")
	}
}

// Found by FuzzCarrier: a key that was set twice, as by two propagators that
// write the same one, was sent with both values.
func TestCarrierSetsAKeyOnce(t *testing.T) {
	c := &outgoing{ctx: t.Context()}
	c.Set("traceparent", "1")
	c.Set("tracestate", "x")
	c.Set("TraceParent", "2")
	md, _ := metadata.FromOutgoingContext(c.context())
	if got := md.Get("traceparent"); !slices.Equal(got, []string{"2"}) || c.Get("traceparent") != "2" || len(c.Keys()) != 2 {
		t.Errorf("traceparent is sent as %q, and read as %q; the keys are %q", got, c.Get("traceparent"), c.Keys())
	}
}
