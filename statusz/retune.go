package statusz

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/turret-go/turret"
)

// A Limit is a gate whose limit operators may change on the page: a
// *limit.Concurrency. The limit in force is the Setting "max" of its description.
type Limit interface {
	turret.Describer
	SetMax(limit int)
}

const (
	mostLimits = 100
	// mostMax is the highest limit that the page sets.
	mostMax = 1_000_000
	// mostForm bounds the body of a POST, in bytes.
	mostForm = 4 << 10
)

// A LimitSetting is a limit that may be changed on the page.
type LimitSetting struct {
	Name string `json:"name"`
	// Max is the limit in force; -1 if the gate does not describe it.
	Max float64 `json:"max"`
}

// limits are those of [Config.Retune].
type limits map[string]Limit

// names returns the names of l in order.
func (l limits) names() []string { return slices.Sorted(maps.Keys(l)) }

// settings returns what the page shows of l.
func (l limits) settings() (all []LimitSetting) {
	for _, name := range l.names() {
		setting := LimitSetting{Name: name, Max: -1}
		for _, f := range turret.Describe(l[name], 0).Figures {
			if f.Kind == turret.Setting && f.Name == "max" {
				setting.Max = f.Value
			}
		}
		all = append(all, setting)
	}
	return all
}

// retune does what a POST of the page's form asks for. It refuses requests that
// another site makes a browser send. status is that of err.
func (l limits) retune(w http.ResponseWriter, r *http.Request) (change Change, status int, err error) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return change, http.StatusForbidden, fmt.Errorf("only from this page: %w", err)
	}
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if err := r.ParseForm(); err != nil {
		return change, http.StatusBadRequest, fmt.Errorf("the form cannot be read: %w", err)
	}
	name, text := r.PostForm.Get("limit"), r.PostForm.Get("max")
	gate, ok := l[name]
	if !ok {
		return change, http.StatusNotFound, fmt.Errorf("limit is %.100q, must be one of %q", name, l.names())
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 0 || limit > mostMax {
		return change, http.StatusBadRequest, fmt.Errorf("max is %.100q, must be between 0 and %d", text, mostMax)
	}
	if err := setMax(gate, limit); err != nil {
		return change, http.StatusInternalServerError, fmt.Errorf("the limit %q was not set to %d: %w", name, limit, err)
	}
	slog.WarnContext(r.Context(), "a limit was changed on the status page", "limit", name, "max", limit)
	return Change{When: time.Now(), Where: name, What: fmt.Sprintf("limit set to %d", limit), Why: "on this page"}, 0, nil
}

// setMax sets a limit. A panic of the gate is an error.
func setMax(gate Limit, limit int) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("%v", fault)
		}
	}()
	gate.SetMax(limit)
	return nil
}
