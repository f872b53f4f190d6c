package discover

import (
	"context"
	"io"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// A Change says that a service has come, or that one has gone. The zero Change
// inserts the zero service under the zero key.
type Change[K comparable, S any] struct {
	// Key names the service among the others: an address, a number.
	Key K
	// Service is what came. It has no meaning if Gone is set.
	Service S
	// Gone says that the service under Key is there no longer.
	Gone bool
}

// Insert returns the [Change] that puts s under key, in the place of what is
// there already.
func Insert[K comparable, S any](key K, s S) Change[K, S] {
	return Change[K, S]{Key: key, Service: s}
}

// Remove returns the [Change] that takes away what is under key. The type of the
// services has to be said, as nothing else tells it: Remove[Service]("a").
func Remove[S any, K comparable](key K) Change[K, S] {
	return Change[K, S]{Key: key, Gone: true}
}

// A Source is a stream of changes. It is read by one goroutine at a time.
type Source[K comparable, S any] interface {
	// Next waits for the next change and returns it. It returns ctx's error soon
	// after ctx is done, io.EOF when there will be no more changes (what is there
	// stays), and any other error when the source has failed.
	Next(ctx context.Context) (Change[K, S], error)
}

// List returns a [Source] that inserts services under their indices, in order,
// and ends. The slice is not kept.
func List[S any](services ...S) Source[int, S] {
	changes := make([]Change[int, S], len(services))
	for i, s := range services {
		changes[i] = Insert(i, s)
	}
	return &list[int, S]{changes}
}

// Addresses returns a [Source] that inserts each address under itself, in order,
// and ends: for servers that do not change. An address that is given twice is
// inserted once. (balance.Resolve is a source of addresses that gRPC's resolvers
// find.)
func Addresses(addresses ...string) Source[string, string] {
	var changes []Change[string, string]
	seen := map[string]struct{}{}
	for _, a := range addresses {
		if _, ok := seen[a]; !ok {
			seen[a] = struct{}{}
			changes = append(changes, Insert(a, a))
		}
	}
	return &list[string, string]{changes}
}

type list[K comparable, S any] struct{ changes []Change[K, S] }

func (l *list[K, S]) Next(ctx context.Context) (c Change[K, S], err error) {
	if err := ctx.Err(); err != nil {
		return c, err
	}
	if len(l.changes) == 0 {
		return c, io.EOF
	}
	c, l.changes = l.changes[0], l.changes[1:]
	return c, nil
}

// Channel returns a [Source] of what comes out of changes. It ends when changes
// is closed. A sender must expect that its sends block once the source is no
// longer used. It panics if changes is nil, from which nothing would
// ever come.
func Channel[K comparable, S any](changes <-chan Change[K, S]) Source[K, S] {
	if changes == nil {
		misuse.Check("discover: Channel", &turret.FieldError{Package: "discover", Field: "channel", Bound: "non-nil"})
	}
	return channel[K, S](changes)
}

type channel[K comparable, S any] <-chan Change[K, S]

func (ch channel[K, S]) Next(ctx context.Context) (c Change[K, S], err error) {
	if err := ctx.Err(); err != nil {
		return c, err
	}
	select {
	case c, ok := <-ch:
		if !ok {
			return c, io.EOF
		}
		return c, nil
	case <-ctx.Done():
		return c, ctx.Err()
	}
}

// Map returns a [Source] of the services that f makes of those of source: with
// layers of their own around them, say, or something that measures their load.
// f is called once for each insertion. Map panics if f is nil.
//
//	discover.Map(source, func(address string, s Service) Service { return layers()(s) })
func Map[K comparable, S, T any](source Source[K, S], f func(key K, s S) T) Source[K, T] {
	if f == nil {
		misuse.Check("discover: Map", &turret.FieldError{Package: "discover", Field: "function", Bound: "non-nil"})
	}
	return &mapped[K, S, T]{source, f}
}

type mapped[K comparable, S, T any] struct {
	source Source[K, S]
	f      func(K, S) T
}

func (m *mapped[K, S, T]) Next(ctx context.Context) (c Change[K, T], err error) {
	from, err := m.source.Next(ctx)
	if err != nil {
		return c, err
	}
	c.Key, c.Gone = from.Key, from.Gone
	if !from.Gone {
		c.Service = m.f(from.Key, from.Service)
	}
	return c, nil
}
