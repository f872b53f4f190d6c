package trace

import (
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// appendServer appends the attributes of the server that target names, if it
// names one.
func appendServer(attributes []attribute.KeyValue, target string) []attribute.KeyValue {
	address, port := parseTarget(target)
	if address == "" {
		return attributes
	}
	attributes = append(attributes, semconv.ServerAddress(address))
	if port > 0 {
		attributes = append(attributes, semconv.ServerPort(port))
	}
	return attributes
}

// parseTarget returns the host, or the path of a socket, and the port of what a
// gRPC client dials, in the forms of gRPC's naming document:
//
//	host:port  dns:host:port  dns://authority/host:port  unix:path  unix:///path
//
// The port is 0 if there is none, or one that has a name.
func parseTarget(target string) (address string, port int) {
	scheme, endpoint := cutScheme(target)
	if strings.HasPrefix(scheme, "unix") {
		return endpoint, 0
	}
	host, name, err := net.SplitHostPort(endpoint)
	if err != nil {
		return strings.Trim(endpoint, "[]"), 0
	}
	if n, err := strconv.ParseUint(name, 10, 16); err == nil {
		port = int(n)
	}
	return host, port
}

// schemes are those of gRPC that may stand in front of an endpoint without
// slashes between: "localhost:443" has none.
var schemes = []string{"dns:", "passthrough:", "unix:", "unix-abstract:", "ipv4:", "ipv6:", "xds:", "vsock:"}

// cutScheme cuts target into its scheme, and its endpoint without authority.
func cutScheme(target string) (scheme, endpoint string) {
	if scheme, rest, ok := strings.Cut(target, "://"); ok {
		_, endpoint, _ := strings.Cut(rest, "/")
		if scheme == "unix" {
			endpoint = "/" + endpoint // the slash is the path's own
		}
		return scheme, endpoint
	}
	for _, s := range schemes {
		if endpoint, ok := strings.CutPrefix(target, s); ok {
			return s[:len(s)-1], endpoint
		}
	}
	return "", target
}
