package main

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

// A served is a status page and its server; the zero served is none.
type served struct {
	page *statusz.Page
	url  string
	stop func()
}

// servePage serves a status page on address; none if that is empty.
func servePage(ctx context.Context, address string, out io.Writer) (served, error) {
	if address == "" {
		return served{stop: func() {}}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return served{}, fmt.Errorf("-http: %w", err)
	}
	page := statusz.New(statusz.Config{Title: "quickstart", Accept: []string{"timeout-of-streams"}}) // the streams here are short
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
	return served{page, pageURL(listener), func() {
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
