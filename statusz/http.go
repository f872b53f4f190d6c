package statusz

import (
	"bytes"
	"compress/gzip"
	_ "embed" // the files of the page
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS []byte
	//go:embed page.js
	pageJS []byte
	//go:embed icon.svg
	iconSVG []byte
)

// policy lets the page load its own style, script and data, and nothing else.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action "

// allowed returns the HTTP methods that the page answers, and where its forms may
// go.
func (p *Page) allowed() (allow, forms string) {
	if len(p.config.Retune) == 0 {
		return "GET, HEAD", "'none'"
	}
	return "GET, HEAD, POST", "'self'"
}

// ServeHTTP answers GET and HEAD with the page; with its JSON form, a [View], for
// "?format=json" or an Accept header that asks for application/json and not for
// text/html. It may be mounted at any path. With [Config.Retune] a POST of the
// page's form changes a limit.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	allow, forms := p.allowed()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy+forms)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Vary", "Accept, Accept-Encoding")
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
	case r.Method == http.MethodPost && len(p.config.Retune) > 0:
		p.retune(w, r)
		return
	default:
		h.Set("Allow", allow)
		http.Error(w, "only "+allow, http.StatusMethodNotAllowed)
		return
	}
	kind, body, err := p.answer(r)
	if err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	if kind == "" {
		http.Error(w, "no such part of the page", http.StatusNotFound)
		return
	}
	h.Set("Content-Type", kind)
	send(w, r, body)
}

// retune changes a limit, and sends the browser back to the page.
func (p *Page) retune(w http.ResponseWriter, r *http.Request) {
	change, code, err := limits(p.config.Retune).retune(w, r)
	if err != nil {
		http.Error(w, err.Error(), code)
		return
	}
	p.mu.Lock()
	p.changes = slices.Insert(p.changes, 0, change)
	p.fresh = true
	p.mu.Unlock()
	http.Redirect(w, r, r.URL.EscapedPath(), http.StatusSeeOther)
}

// answer returns what r asks for; kind is empty if there is no such thing.
func (p *Page) answer(r *http.Request) (kind string, body []byte, err error) {
	query := r.URL.Query()
	switch query.Get("file") {
	case "":
	case "page.css":
		return "text/css; charset=utf-8", pageCSS, nil
	case "page.js":
		return "text/javascript; charset=utf-8", pageJS, nil
	case "icon.svg":
		return "image/svg+xml", iconSVG, nil
	default:
		return "", nil, nil
	}
	format := query.Get("format")
	if format == "json" || format == "" && asksForJSON(r.Header.Get("Accept")) {
		body, err = json.MarshalIndent(p.View(), "", " ")
		return "application/json", body, err
	}
	if format != "" && format != "html" {
		return "", nil, nil
	}
	body, err = p.render()
	return "text/html; charset=utf-8", body, err
}

func asksForJSON(accept string) bool {
	return strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html")
}

// send writes body, compressed if the client takes that.
func send(w http.ResponseWriter, r *http.Request, body []byte) {
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") && len(body) > 1000 {
		var small bytes.Buffer
		z := gzip.NewWriter(&small)
		_, _ = z.Write(body)
		_ = z.Close()
		body = small.Bytes()
		w.Header().Set("Content-Encoding", "gzip")
	}
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body)
}

// render returns the page in HTML.
func (p *Page) render() ([]byte, error) {
	view := p.View()
	var b bytes.Buffer
	p.mu.Lock() // guards the curves
	defer p.mu.Unlock()
	err := pageTemplate.Execute(&b, p.shown(view))
	return b.Bytes(), err
}

// shown returns what the template is given of view. Curves reach back as far as
// there is something to show. It needs p.mu.
func (p *Page) shown(view View) shown {
	keep := p.history.keep
	for _, part := range [...]int{10, 5, 2} {
		if n := p.history.keep / part; n >= curvePoints && p.history.look <= n {
			keep = n
			break
		}
	}
	return shown{View: view, keep: keep, Reach: time.Duration(keep) * p.config.Interval}
}
