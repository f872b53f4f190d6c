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

// A Knob is a limit that may be changed on the page.
type Knob struct {
	Name string `json:"name"`
	// Max is the limit in force; -1 if the gate does not describe it.
	Max float64 `json:"max"`
}

// knobs returns the limits that may be changed, by name.
func (p *Page) knobs() (all []Knob) {
	for _, name := range slices.Sorted(maps.Keys(p.config.Retune)) {
		knob := Knob{Name: name, Max: -1}
		for _, f := range turret.Describe(p.config.Retune[name], 0).Figures {
			if f.Kind == turret.Setting && f.Name == "max" {
				knob.Max = f.Value
			}
		}
		all = append(all, knob)
	}
	return all
}

// retune answers a POST of the page's form: it sets the limit of one gate, and
// sends the browser back to the page. Requests that another site makes a browser
// send are refused.
func (p *Page) retune(w http.ResponseWriter, r *http.Request) {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		http.Error(w, "only from this page: "+err.Error(), http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, mostForm)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	name, text := r.PostForm.Get("limit"), r.PostForm.Get("max")
	gate, ok := p.config.Retune[name]
	if !ok {
		http.Error(w, fmt.Sprintf("limit is %.100q, must be one of %q", name, slices.Sorted(maps.Keys(p.config.Retune))), http.StatusNotFound)
		return
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 0 || limit > mostMax {
		http.Error(w, fmt.Sprintf("max is %.100q, must be between 0 and %d", text, mostMax), http.StatusBadRequest)
		return
	}
	if err := p.setMax(name, gate, limit); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	http.Redirect(w, r, r.URL.EscapedPath(), http.StatusSeeOther)
}

// setMax sets a limit, and notes so among the changes and in the log. A gate that
// panics is reported as an error.
func (p *Page) setMax(name string, gate Limit, limit int) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("statusz: the limit %q was not set to %d: %v", name, limit, fault)
		}
	}()
	gate.SetMax(limit)
	slog.Warn("a limit was changed on the status page", "limit", name, "max", limit)
	p.mu.Lock()
	defer p.mu.Unlock()
	change := Change{When: time.Now(), Where: name, What: fmt.Sprintf("limit set to %d", limit), Why: "on this page"}
	p.changes = slices.Insert(p.changes, 0, change)
	p.fresh = true
	return nil
}
