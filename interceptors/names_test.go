package interceptors_test

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/turret-go/turret/interceptors"
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
