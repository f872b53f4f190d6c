//go:build unix

package faults

import (
	"os"
	"testing"
)

// TestMain makes this binary a server when the environment says so.
func TestMain(m *testing.M) {
	if config := os.Getenv(asServer); config != "" {
		serve(config)
		return
	}
	m.Run()
}
