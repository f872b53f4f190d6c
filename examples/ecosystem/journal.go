package main

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
)

// A journal is where the logging interceptors of both sides write. A real
// program would pass on to its logger what it is given.
type journal struct {
	mu    sync.Mutex
	lines []string
}

// Log implements logging.Logger. It keeps what is the same in every run.
func (j *journal) Log(_ context.Context, _ logging.Level, msg string, fields ...any) {
	said := map[string]any{}
	for f := logging.Fields(fields).Iterator(); f.Next(); {
		name, value := f.At()
		said[name] = value
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf("%-6v %-13v %s: %v", said["grpc.component"], said["grpc.method"], msg, said["grpc.code"]))
}

// of returns the lines of one method.
func (j *journal) of(method string) (lines []string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, l := range j.lines {
		if strings.Contains(l, " "+method+" ") {
			lines = append(lines, l)
		}
	}
	return lines
}
