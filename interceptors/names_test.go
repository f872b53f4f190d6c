package interceptors_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
)

// Logs and JSON show names, also of what is unknown: a log line is not lost for
// it.
func TestNamesInLogs(t *testing.T) {
	all := map[string]any{
		"by kind": map[interceptors.Kind]int{interceptors.KindUnary: 1},
		"events":  []interceptors.EventKind{interceptors.EventRefused, interceptors.EventRetry, interceptors.EventHedge, interceptors.EventTimeout, interceptors.EventPanic, 0},
		"kinds":   append(slices.Clip(kinds), 9),
		"sides":   []interceptors.Side{interceptors.SideClient, interceptors.SideServer, 9},
	}
	const want = `{"by kind":{"unary":1},` +
		`"events":["refused","retry","hedge","timeout","panic","EventKind(0)"],` +
		`"kinds":["unary","client_stream","server_stream","bidi_stream","Kind(9)"],` +
		`"sides":["client","server","Side(9)"]}`
	if got, err := json.Marshal(all); err != nil || string(got) != want {
		t.Errorf("JSON: %s, %v, want %s", got, err, want)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "kind", interceptors.KindUnary, "side", interceptors.SideServer, "event", interceptors.EventKind(9))
	if want := `"kind":"unary","side":"server","event":"EventKind(9)"}`; !strings.Contains(log.String(), want) {
		t.Errorf("slog: %s, want %s", log.String(), want)
	}
}

// A log line of an event or an RPC says what happened, and nothing of what was
// in the request.
func TestEventsInLogs(t *testing.T) {
	rpc := &interceptors.RPC{Method: "/pay.Payments/Charge", Side: interceptors.SideServer, Attempt: 2, Request: "secret"}
	const written = `"rpc":{"method":"/pay.Payments/Charge","kind":"unary","side":"server","attempt":2}`
	for _, tt := range []struct {
		name  string
		value any
		want  string
	}{
		{"RPC", rpc, written},
		{"copy of an RPC", *rpc, written},
		{
			"retry",
			interceptors.Event{
				Kind: interceptors.EventRetry, RPC: rpc, Layer: "retry", Reason: "LIMIT_FULL", Attempt: 1,
				Delay: time.Millisecond, Err: limit.ErrFull,
			},
			`"rpc":{"kind":"retry",` + written + `,"layer":"retry","reason":"LIMIT_FULL","attempt":1,"delay":1000000,"err":"no room"}`,
		},
		{
			"panic",
			interceptors.Event{Kind: interceptors.EventPanic, RPC: rpc, Layer: "recover", Panic: errors.New("why")},
			`"rpc":{"kind":"panic",` + written + `,"layer":"recover","panic":"why"}`,
		},
		{"nothing", interceptors.Event{}, `"rpc":{"kind":"EventKind(0)"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log strings.Builder
			slog.New(slog.NewJSONHandler(&log, nil)).Info("", "rpc", tt.value)
			if !strings.HasSuffix(log.String(), tt.want+"}\n") || strings.Contains(log.String(), "secret") {
				t.Errorf("%s, want %s", log.String(), tt.want)
			}
		})
	}
}
