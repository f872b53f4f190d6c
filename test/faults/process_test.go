//go:build unix

package faults

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/turret-go/turret/test/faults/internal/traffic"
)

// A process is a server that runs.
type process struct {
	testing.TB

	config  serverConfig
	cmd     *exec.Cmd
	stdin   io.WriteCloser
	stderr  bytes.Buffer
	ledger  *ledger
	ready   chan string // its address
	stats   chan stats
	phases  chan string   // of its drain
	drained drained       // read when ended is closed
	stopped bool          // it has printed so; read when ended is closed
	ended   chan struct{} // all that it wrote has been read
}

// stats are the counts that a server prints.
type stats struct{ inFlight, waiting, connections int }

// A drained is what a server prints after its drain.
type drained struct {
	cut, stuck int
	paused     time.Duration // for how long the process stood still
}

// startProcess starts a server, which writes to ledger what it receives.
func startProcess(t testing.TB, config serverConfig, l *ledger) *process {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{
		TB: t, config: config, ledger: l,
		ready: make(chan string, 1), stats: make(chan stats, 1), phases: make(chan string, 10), ended: make(chan struct{}),
	}
	p.cmd = exec.CommandContext(t.Context(), os.Args[0])
	p.cmd.Env = append(os.Environ(), asServer+"="+string(text), "GORACE=atexit_sleep_ms=0")
	p.cmd.Stdout, p.cmd.Stderr = in, &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	go p.listen(out)
	select {
	case p.config.Address = <-p.ready:
	case <-p.ended:
		t.Fatalf("server %s did not start: %s", config.Name, &p.stderr)
	}
	return p
}

// listen reads what the server writes, to the end.
func (p *process) listen(out io.ReadCloser) {
	defer close(p.ended)
	defer out.Close() //nolint:errcheck // it has been read
	for lines := bufio.NewScanner(out); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		switch word {
		case "ready":
			p.ready <- rest
		case "got":
			p.ledger.add(p.config.Name, numbers(rest))
		case "stats":
			n := numbers(rest)
			p.stats <- stats{n[0], n[1], n[2]}
		case "phase":
			p.phases <- rest
		case "drained":
			n := numbers(rest)
			p.drained = drained{n[0], n[1], time.Duration(n[2]) * time.Millisecond}
		case "stopped":
			p.stopped = true
		default:
			p.ledger.problem("server %s says %q", p.config.Name, lines.Text())
		}
	}
}

// numbers returns the three numbers of a line.
func numbers(line string) (n [3]int) {
	for i, word := range strings.Fields(line) {
		n[i], _ = strconv.Atoi(word)
	}
	return n
}

// ask returns the counts of the server. All that it has written before has
// then been read.
func (p *process) ask() stats {
	p.Helper()
	if _, err := fmt.Fprintln(p.stdin, "stats"); err != nil {
		p.Fatalf("server %s does not listen: %v", p.config.Name, err)
	}
	select {
	case s := <-p.stats:
		return s
	case <-p.ended:
		p.Fatalf("server %s has ended: %s", p.config.Name, &p.stderr)
		return stats{}
	}
}

// kill ends the server as kill -9 does, and waits until it is gone.
func (p *process) kill() {
	p.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.Fatal(err)
	}
	_ = p.cmd.Wait() // killed
	<-p.ended
}

// signal sends SIGSTOP, SIGCONT or SIGTERM.
func (p *process) signal(s syscall.Signal) {
	p.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.Fatal(err)
	}
}

// stop stops the server gracefully, and returns how long that took.
func (p *process) stop(bound time.Duration) time.Duration {
	p.Helper()
	if _, err := fmt.Fprintln(p.stdin, "stop"); err != nil {
		p.Fatal(err)
	}
	return p.gone(bound)
}

// gone waits until the server has stopped by itself, and returns how long that
// took.
func (p *process) gone(bound time.Duration) time.Duration {
	p.Helper()
	took := traffic.Await(p, "server "+p.config.Name+" has stopped", bound, func() bool {
		select {
		case <-p.ended:
			return true
		default:
			return false
		}
	}, func() string { return p.stderr.String() })
	if err := p.cmd.Wait(); err != nil || !p.stopped {
		p.Errorf("server %s: %v, stopped %v: %s", p.config.Name, err, p.stopped, &p.stderr)
	}
	return took
}

// close ends the server. It fails the test if the server was unwell: a data race,
// a panic.
func (p *process) close() {
	p.Helper()
	if p.cmd.ProcessState != nil {
		return // killed, or stopped
	}
	_ = p.stdin.Close()
	<-p.ended
	if err := p.cmd.Wait(); err != nil {
		p.Errorf("server %s: %v: %s", p.config.Name, err, &p.stderr)
	}
}

// restart starts the server again, at the same address.
func (p *process) restart() *process {
	p.Helper()
	return startProcess(p.TB, p.config, p.ledger)
}
