package interceptors

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"
)

// incoming lets a propagator read the metadata that a server received.
type incoming struct{ ctx context.Context } //nolint:containedctx // metadata lives in contexts

// Get returns the first value of key, as OpenTelemetry's carriers do; empty if there
// is none. Keys are found in any case.
func (c incoming) Get(key string) string {
	if values := c.Values(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Values returns all values: a client may send the header baggage more than once.
func (c incoming) Values(key string) []string { return metadata.ValueFromIncomingContext(c.ctx, key) }

// Set does nothing: a server does not change what it received.
func (c incoming) Set(string, string) {}

// Keys returns the names of all headers, in any order.
func (c incoming) Keys() []string {
	md, _ := metadata.FromIncomingContext(c.ctx)
	return keysOf(md)
}

// outgoing lets a propagator write the metadata that a client sends. What it
// writes takes the place of what is there: of the context of a span outside, or
// of another RPC's metadata that was passed on.
type outgoing struct {
	ctx   context.Context //nolint:containedctx // metadata lives in contexts
	added []string        // keys and values that ctx does not have yet
	few   [4]string
}

// A key that the context has already costs a copy of its metadata. Others, as nearly
// all are, are collected, and appended to the context together by context.
func (c *outgoing) Set(key, value string) {
	if len(metadata.ValueFromOutgoingContext(c.ctx, key)) > 0 {
		md, _ := metadata.FromOutgoingContext(c.ctx) // a copy
		md.Set(key, value)
		c.ctx = metadata.NewOutgoingContext(c.ctx, md)
		return
	}
	for i := 0; i < len(c.added); i += 2 {
		if strings.EqualFold(c.added[i], key) {
			c.added[i+1] = value
			return
		}
	}
	if c.added == nil {
		c.added = c.few[:0]
	}
	c.added = append(c.added, key, value)
}

// context returns the context with all that was written.
func (c *outgoing) context() context.Context {
	if len(c.added) == 0 {
		return c.ctx
	}
	return metadata.AppendToOutgoingContext(c.ctx, c.added...)
}

// Get returns what Set wrote, too. Propagators hardly ever ask.
func (c *outgoing) Get(key string) string {
	if values := metadata.ValueFromOutgoingContext(c.context(), key); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Keys returns the names of all headers, those that Set wrote included.
func (c *outgoing) Keys() []string {
	md, _ := metadata.FromOutgoingContext(c.context())
	return keysOf(md)
}

// keysOf returns the keys of md in any order.
func keysOf(md metadata.MD) []string {
	keys := make([]string, 0, len(md))
	for key := range md {
		keys = append(keys, key)
	}
	return keys
}
