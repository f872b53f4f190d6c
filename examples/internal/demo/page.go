package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/turret-go/turret/statusz"
)

// A Served is a status page and its server.
type Served struct {
	Page *statusz.Page // nil if none is served
	URL  string
	Stop func()
}

// ServePage serves a status page on address; none if that is empty. What goes wrong
// later it says on out.
func ServePage(ctx context.Context, address string, c statusz.Config, out io.Writer) (Served, error) {
	if address == "" {
		return Served{Stop: func() {}}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return Served{}, fmt.Errorf("-http: %w", err)
	}
	page := statusz.New(c)
	mux := http.NewServeMux()
	mux.Handle("/debug/turret", page)
	mux.Handle("/{$}", http.RedirectHandler("/debug/turret", http.StatusFound))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(out, "the status page ended:", err)
		}
	}()
	return Served{page, pageURL(listener), func() {
		_ = server.Close()
		<-ended
		page.Close()
	}}, nil
}

// pageURL returns where the page is to be found from this machine.
func pageURL(l net.Listener) string {
	host, port, _ := net.SplitHostPort(l.Addr().String())
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/debug/turret"
}
