package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/turret-go/turret/statusz"
)

// runTop shows a status page on the terminal. If the output is no terminal it
// prints the page once.
func runTop(ctx context.Context, s streams, args []string) error {
	flags := flag.NewFlagSet("turret top", flag.ContinueOnError)
	flags.SetOutput(s.err)
	every := flags.Duration("every", time.Second, "how often to look, between 100ms and 1h")
	flags.Usage = func() {
		fmt.Fprint(s.err, "usage: turret top [-every 1s] URL\n\n"+
			"Shows the status page (package statusz) at URL on the terminal; q and Ctrl-C end it.\n"+
			"If the output is no terminal it prints the page once.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil {
		return errUsage
	}
	if flags.NArg() != 1 || *every < 100*time.Millisecond || *every > time.Hour {
		flags.Usage()
		return errUsage
	}
	t := &top{every: *every, out: s.out}
	target, err := jsonURL(flags.Arg(0))
	if err != nil {
		return err
	}
	t.look = func(ctx context.Context) (statusz.View, error) { return fetch(ctx, target) }
	out, isFile := s.out.(*os.File)
	if !isFile || !term.IsTerminal(int(out.Fd())) || !term.IsTerminal(int(os.Stdin.Fd())) {
		return t.once(ctx)
	}
	return onTerminal(ctx, t, out)
}

// onTerminal runs t with the keyboard in raw mode, and puts the terminal back as
// it was.
func onTerminal(ctx context.Context, t *top, out *os.File) error {
	before, err := term.MakeRaw(int(os.Stdin.Fd()))
	if err != nil {
		return fmt.Errorf("the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(os.Stdin.Fd()), before) }()
	t.size = func() (width, height int) {
		width, height, err := term.GetSize(int(out.Fd()))
		if err != nil || width < 1 || height < 1 {
			return 80, 24
		}
		return width, height
	}
	return t.run(ctx, os.Stdin)
}

// jsonURL returns where the JSON form of the page at text is.
func jsonURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%q is not the URL of a page, such as http://localhost:8080/debug/turret", text)
	}
	query := u.Query()
	query.Set("format", "json")
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// mostJSON is the largest answer that is read, in bytes.
const mostJSON = 16 << 20

func fetch(ctx context.Context, target string) (v statusz.View, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return v, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return v, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return v, fmt.Errorf("%s answers %s", target, answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, mostJSON)).Decode(&v); err != nil {
		return v, fmt.Errorf("%s is no status page: %w", target, err)
	}
	return v, nil
}

// A top shows Views.
type top struct {
	every time.Duration
	out   io.Writer
	look  func(ctx context.Context) (statusz.View, error)
	size  func() (width, height int)
}

// once prints one View.
func (t *top) once(ctx context.Context) error {
	v, err := t.look(ctx)
	if err != nil {
		return err
	}
	for _, line := range lines(v) {
		fmt.Fprintln(t.out, line)
	}
	return nil
}

// run draws a View every interval, on the alternate screen, until keys has a q or
// a Ctrl-C or ends, or ctx is done.
func (t *top) run(ctx context.Context, keys io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer cancel()
		waitForEnd(keys)
	}()
	fmt.Fprint(t.out, "\x1b[?1049h\x1b[?25l")
	defer fmt.Fprint(t.out, "\x1b[?25h\x1b[?1049l")
	tick := time.NewTicker(t.every)
	defer tick.Stop()
	for {
		v, err := t.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		text := []string{"", fmt.Sprintf("  %v", err)}
		if err == nil {
			text = lines(v)
		}
		t.draw(text)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// waitForEnd returns when keys has a q or a Ctrl-C, or ends.
func waitForEnd(keys io.Reader) {
	var key [16]byte
	for {
		n, err := keys.Read(key[:])
		for _, k := range key[:n] {
			if k == 'q' || k == 'Q' || k == 3 {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// draw writes the lines that fit on the terminal as it is now.
func (t *top) draw(text []string) {
	width, height := t.size()
	var screen strings.Builder
	screen.WriteString("\x1b[H")
	for i, line := range text {
		if i >= height-1 {
			break
		}
		screen.WriteString(cut(line, width) + "\x1b[K\r\n")
	}
	fmt.Fprint(t.out, screen.String()+"\x1b[J"+cut("q ends", width))
}

func cut(s string, width int) string {
	if r := []rune(s); len(r) > width {
		return string(r[:max(width, 0)])
	}
	return s
}
