package trace

import (
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, tt := range []struct {
		target, address string
		port            int
	}{
		{"", "", 0},
		{"example.com", "example.com", 0},
		{"example.com:443", "example.com", 443},
		{"localhost:https", "localhost", 0},
		{"localhost:0", "localhost", 0},
		{"localhost:65536", "localhost", 0},
		{"dns:example.com:443", "example.com", 443},
		{"dns:///example.com:443", "example.com", 443},
		{"dns://8.8.8.8/example.com:443", "example.com", 443},
		{"dns://8.8.8.8", "", 0},
		{"passthrough:///bufnet", "bufnet", 0},
		{"ipv4:127.0.0.1:80", "127.0.0.1", 80},
		{"ipv6:[::1]:80", "::1", 80},
		{"[::1]", "::1", 0},
		{"xds:///service", "service", 0},
		{"unix:relative.sock", "relative.sock", 0},
		{"unix:/run/s.sock", "/run/s.sock", 0},
		{"unix:///run/s.sock", "/run/s.sock", 0},
		{"unix-abstract:name:1", "name:1", 0},
		{"mine:///service:81", "service", 81},
	} {
		address, port := parseTarget(tt.target)
		if address != tt.address || port != tt.port {
			t.Errorf("parseTarget(%q) = %q, %d, want %q, %d", tt.target, address, port, tt.address, tt.port)
		}
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"dns:///a:1", "unix:///a", "[::1]:1", "a://b/c://d:0", "dns:", "::", "]:9["} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		address, port := parseTarget(target)
		if !strings.Contains("/"+target, address) {
			t.Errorf("parseTarget(%q) = %q, which is no part of it", target, address)
		}
		if port < 0 || port > 65535 {
			t.Errorf("parseTarget(%q) has the port %d", target, port)
		}
	})
}
