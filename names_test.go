package turret_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/turret-go/turret"
)

// Logs and JSON show names, also of what is unknown: a log line is not lost for
// it.
func TestNamesInLogs(t *testing.T) {
	all := map[string]any{
		"kinds":    []turret.Kind{turret.KindOverloaded, turret.KindRateLimited, turret.KindUnavailable, 9},
		"outcomes": []turret.Outcome{turret.Success, turret.Failure, turret.Overload, turret.Ignored, turret.Unused, 0},
		"refusals": map[turret.Kind]turret.Outcome{turret.KindUnavailable: turret.Failure},
	}
	const want = `{"kinds":["Overloaded","RateLimited","Unavailable","Kind(9)"],` +
		`"outcomes":["Success","Failure","Overload","Ignored","Unused","Outcome(0)"],` +
		`"refusals":{"Unavailable":"Failure"}}`
	if got, err := json.Marshal(all); err != nil || string(got) != want {
		t.Errorf("JSON: %s, %v, want %s", got, err, want)
	}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "kind", turret.KindRateLimited, "unknown", turret.Kind(9), "outcome", turret.Success)
	if want := `"kind":"RateLimited","unknown":"Kind(9)","outcome":"Success"}`; !strings.Contains(log.String(), want) {
		t.Errorf("slog: %s, want %s", log.String(), want)
	}
}
