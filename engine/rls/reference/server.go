// Package reference runs Envoy's reference rate limit server,
// github.com/envoyproxy/ratelimit, for the tests of engine/rls. It is in a module
// of its own, which pins the server as a tool, so that engine/rls does not depend
// on it.
package reference

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// tool is the last element of the import path of the server's command, which
// go.mod names as a tool.
const tool = "service_cmd"

// ErrMissing says that there is no go command to build the server with.
var ErrMissing = errors.New("the go command, which builds the rate limit server, is not in PATH")

// Build compiles the server, if it is not in the build cache, and returns the path
// of the program. The working directory must be in this module.
func Build(ctx context.Context) (program string, err error) {
	var stdout, stderr bytes.Buffer
	c := exec.CommandContext(ctx, "go", "tool", "-n", tool)
	c.Env = append(os.Environ(), "GOWORK=off")
	c.Stdout, c.Stderr = &stdout, &stderr
	switch err := c.Run(); {
	case errors.Is(err, exec.ErrNotFound):
		return "", ErrMissing
	case err != nil:
		return "", fmt.Errorf("building the rate limit server: %w\n%s", err, &stderr)
	}
	return strings.TrimSpace(stdout.String()), nil
}

// Config says how a [Server] runs.
type Config struct {
	// Program is the path that [Build] returned.
	Program string
	// Dir is an empty directory for the socket and the configuration. The path of a
	// socket may have 107 bytes at most, so Dir must be short.
	Dir string
	// Redis is the path of the Unix socket of the Redis server that keeps the counts.
	Redis string
	// Limits is the server's configuration of limits, in YAML.
	Limits string
}

// Server is a running server. Its methods must not be called concurrently.
type Server struct {
	// Target is what gRPC dials.
	Target string

	cmd    *exec.Cmd
	ended  chan struct{} // closed when the process has ended
	output bytes.Buffer  // read only after ended
}

// Start starts a server and returns when it accepts connections. The server is
// killed when ctx ends. A server that was started before with the same Dir must
// have been killed. The error has what the server printed.
func Start(ctx context.Context, c Config) (*Server, error) {
	socket := filepath.Join(c.Dir, "r")
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err // the socket of a server that was killed stays
	}
	config := filepath.Join(c.Dir, "c", "config")
	if err := os.MkdirAll(config, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(config, "limits.yaml"), []byte(c.Limits), 0o600); err != nil {
		return nil, err
	}
	s := &Server{Target: "unix:" + socket, ended: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, c.Program)
	// The server serves HTTP on two ports besides, which nothing here uses: the
	// system chooses them.
	s.cmd.Env = []string{
		"GRPC_UDS=" + socket, "HOST=127.0.0.1", "PORT=0", "DEBUG_HOST=127.0.0.1", "DEBUG_PORT=0",
		"REDIS_SOCKET_TYPE=unix", "REDIS_URL=" + c.Redis,
		"RUNTIME_ROOT=" + c.Dir, "RUNTIME_SUBDIRECTORY=c", "RUNTIME_WATCH_ROOT=false",
		"USE_STATSD=false", "DISABLE_STATS=true",
	}
	s.cmd.Stdout, s.cmd.Stderr = &s.output, &s.output
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait() // "signal: killed"
	}()
	return s, s.wait(ctx, socket)
}

// wait waits until the server accepts connections on the socket.
func (s *Server) wait(ctx context.Context, socket string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-s.ended:
			return fmt.Errorf("%s ended before it accepted connections: it printed:\n%s", s.cmd.Path, &s.output)
		case <-tick.C:
		}
	}
}

// Signal sends a signal to the server.
func (s *Server) Signal(signal os.Signal) error { return s.cmd.Process.Signal(signal) }

// Kill ends the server with SIGKILL and returns when it has ended.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it fails if the server has ended already
	<-s.ended
}
