package interceptors

import (
	"context"
	"strings"

	"google.golang.org/grpc/metadata"
)

// incoming lets a propagator read the metadata that a server received.
type incoming struct{ ctx context.Context } //nolint:containedctx // metadata lives in contexts

func (c incoming) Get(key string) string {
	if values := c.Values(key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (c incoming) Values(key string) []string { return metadata.ValueFromIncomingContext(c.ctx, key) }

func (c incoming) Set(string, string) {}

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

func (c *outgoing) Get(key string) string {
	if values := metadata.ValueFromOutgoingContext(c.context(), key); len(values) > 0 {
		return values[0]
	}
	return ""
}

func (c *outgoing) Keys() []string {
	md, _ := metadata.FromOutgoingContext(c.context())
	return keysOf(md)
}

func keysOf(md metadata.MD) []string {
	keys := make([]string, 0, len(md))
	for key := range md {
		keys = append(keys, key)
	}
	return keys
}
