package main

import (
	"context"
	"testing"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"

	"github.com/turret-go/turret/interceptors"
)

// TestLint holds the stacks to what Lint says.
func TestLint(t *testing.T) {
	log := logging.LoggerFunc(func(context.Context, logging.Level, string, ...any) {})
	if found := clientStack(log).Lint(interceptors.SideClient); len(found) > 0 {
		t.Errorf("the client has findings %v", found)
	}
	if found := serverStack(log).Lint(interceptors.SideServer); len(found) > 0 {
		t.Errorf("the server has findings %v", found)
	}
}
