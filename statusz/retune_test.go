package statusz

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// stubborn is a limit that cannot be changed.
type stubborn struct{ describer }

func (stubborn) SetMax(int) { panic("a fault") }

// set sends the form of the page, as a browser does.
func set(p *Page, limit, value string, header ...string) *httptest.ResponseRecorder {
	body := url.Values{"limit": {limit}, "max": {value}}.Encode()
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, "http://ops.example/debug/turret", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// TestRetune changes a limit on the page, and tries what must not change it.
func TestRetune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		orders := limit.NewConcurrency(10, limit.Queue{})
		silent := stubborn{func(*turret.Description) {}}
		p := New(Config{Retune: map[string]Limit{"orders": orders, "<b>": silent}})
		defer p.Close()
		if got := p.View().Limits; len(got) != 2 || got[0] != (LimitSetting{"<b>", -1}) || got[1] != (LimitSetting{"orders", 10}) {
			t.Errorf("limits %+v", got)
		}
		w := set(p, "orders", "25", "Sec-Fetch-Site", "same-origin")
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != "/debug/turret" || orders.Stats().Max != 25 {
			t.Errorf("answer %d to %q, limit %d", w.Code, w.Header().Get("Location"), orders.Stats().Max)
		}
		page := get(p, "/").Body.String()
		for _, want := range []string{`name="limit" value="orders"`, `value="25"`, "limit set to 25", `value="&lt;b&gt;"`} {
			if !strings.Contains(page, want) {
				t.Errorf("the page has no %s", want)
			}
		}
		for name, c := range map[string]struct {
			w    *httptest.ResponseRecorder
			code int
			text string
		}{
			"another site":   {set(p, "orders", "1", "Sec-Fetch-Site", "cross-site"), http.StatusForbidden, "only from this page"},
			"a sibling":      {set(p, "orders", "1", "Sec-Fetch-Site", "same-site"), http.StatusForbidden, "only from this page"},
			"another origin": {set(p, "orders", "1", "Origin", "http://evil.example"), http.StatusForbidden, "only from this page"},
			"unknown":        {set(p, "nothing", "1"), http.StatusNotFound, `limit is "nothing", must be one of ["<b>" "orders"]`},
			"no number":      {set(p, "orders", "many"), http.StatusBadRequest, `max is "many", must be between 0 and 1000000`},
			"negative":       {set(p, "orders", "-1"), http.StatusBadRequest, "must be between"},
			"too high":       {set(p, "orders", "1000001"), http.StatusBadRequest, "must be between"},
			"a flood":        {set(p, "orders", strings.Repeat("1", mostForm)), http.StatusBadRequest, "cannot be read"},
			"a panic":        {set(p, "<b>", "1"), http.StatusInternalServerError, `the limit "<b>" was not set to 1: a fault`},
		} {
			if got := c.w.Body.String(); c.w.Code != c.code || !strings.Contains(got, c.text) {
				t.Errorf("%s: %d %s", name, c.w.Code, got)
			}
		}
		if got := orders.Stats().Max; got != 25 {
			t.Errorf("the limit is %d", got)
		}
	})
}

// TestRetuneIsOff checks that a page changes nothing unless it is asked to.
func TestRetuneIsOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		w := set(p, "orders", "1", "Sec-Fetch-Site", "same-origin")
		if w.Code != http.StatusMethodNotAllowed || !strings.HasSuffix(w.Header().Get("Content-Security-Policy"), "form-action 'none'") {
			t.Errorf("answer %d, policy %q", w.Code, w.Header().Get("Content-Security-Policy"))
		}
	})
}

// TestRetuneConfig checks what a page refuses to be made with.
func TestRetuneConfig(t *testing.T) {
	many := map[string]Limit{}
	for n := range mostLimits + 1 {
		many[strings.Repeat("x", n+1)] = limit.NewConcurrency(1, limit.Queue{})
	}
	for want, retune := range map[string]map[string]Limit{
		"Retune is 101, must be at most 100 limits": many,
		"Retune[orders] is nil, must be non-nil":    {"orders": nil},
		"must be under names of 1 to 100 bytes":     {"": limit.NewConcurrency(1, limit.Queue{})},
	} {
		err := Config{Retune: retune}.Validate()
		if _, ok := errors.AsType[*turret.FieldError](err); !ok || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
