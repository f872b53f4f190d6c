// Package redisserver runs a Redis or Valkey server for tests and examples: in
// memory, on a Unix socket, with nothing saved.
package redisserver

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrMissing says that neither redis-server nor valkey-server is installed. Its
// text says how to install one.
var ErrMissing = errors.New("neither redis-server nor valkey-server is in PATH; on Debian and Ubuntu: apt-get install redis-server")

// Server is a running server. Its methods must not be called concurrently.
type Server struct {
	// Socket is the path of its Unix socket.
	Socket string

	cmd  *exec.Cmd
	done chan struct{} // closed once all output is read
}

// Start starts a server whose socket is in dir, and returns when the server
// accepts connections. The server is killed when ctx ends. The error is
// [ErrMissing] if no server is installed; another error has what the server
// printed.
//
// The path of a socket may have 107 bytes at most, so dir must be short.
func Start(ctx context.Context, dir string) (*Server, error) {
	program, err := find()
	if err != nil {
		return nil, err
	}
	s := &Server{Socket: filepath.Join(dir, "s"), done: make(chan struct{})}
	s.cmd = exec.CommandContext(ctx, program,
		"--port", "0", "--unixsocket", s.Socket, "--save", "", "--appendonly", "no", "--dir", dir)
	output, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	ready := make(chan bool, 1)
	var log strings.Builder
	go func() {
		defer close(s.done)
		up := false
		for lines := bufio.NewScanner(output); lines.Scan(); {
			if !up {
				log.WriteString(lines.Text() + "\n")
			}
			if !up && strings.Contains(strings.ToLower(lines.Text()), "ready to accept connections") {
				up = true
				ready <- true
			}
		}
		if !up {
			ready <- false
		}
	}()
	if !<-ready {
		s.Kill()
		return nil, fmt.Errorf("%s ended before it accepted connections: it printed:\n%s", program, &log)
	}
	return s, nil
}

// Kill ends the server with SIGKILL and returns when it has ended.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill() // it fails if the server has ended already
	<-s.done
	_ = s.cmd.Wait() // "signal: killed"
}

func find() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrMissing
}
