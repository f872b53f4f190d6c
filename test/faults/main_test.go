//go:build unix

package faults

import (
	"os"
	"testing"
)

// TestMain makes this binary a server if the environment has asServer.
func TestMain(m *testing.M) {
	if config := os.Getenv(asServer); config != "" {
		serve(config)
		return
	}
	m.Run()
}
