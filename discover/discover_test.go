package discover_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/turret-go/turret/discover"
)

type change = discover.Change[int, string]

// collect reads a source until it fails.
func collect[S any](ctx context.Context, source discover.Source[int, S]) ([]discover.Change[int, S], error) {
	var changes []discover.Change[int, S]
	for {
		c, err := source.Next(ctx)
		if err != nil {
			return changes, err
		}
		changes = append(changes, c)
	}
}

func TestList(t *testing.T) {
	services := []string{"a", "b", "a"}
	source := discover.List(services...)
	services[0] = "x"
	got, err := collect(t.Context(), source)
	want := []change{{Key: 0, Service: "a"}, {Key: 1, Service: "b"}, {Key: 2, Service: "a"}}
	if !slices.Equal(got, want) || !errors.Is(err, io.EOF) {
		t.Errorf("got %v, %v, want %v and EOF", got, err, want)
	}
	if _, err := source.Next(t.Context()); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want EOF again", err)
	}
	if got, err := collect(t.Context(), discover.List[string]()); len(got) > 0 || !errors.Is(err, io.EOF) {
		t.Errorf("empty list: %v, %v, want EOF", got, err)
	}
}

// An address is its own key, and is inserted once.
func TestAddresses(t *testing.T) {
	source := discover.Addresses("b", "a", "b")
	var got []string
	for {
		c, err := source.Next(t.Context())
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Errorf("ended with %v, want EOF", err)
			}
			break
		}
		if c.Key != c.Service || c.Gone {
			t.Errorf("got %+v, want an insertion of an address under itself", c)
		}
		got = append(got, c.Key)
	}
	if want := []string{"b", "a"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// ended returns a context that is done.
func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// A reader that has gone does not take a change with it.
func TestEndedContextTakesNothing(t *testing.T) {
	changes := make(chan change, 1)
	changes <- discover.Insert(0, "a")
	close(changes)
	sources := map[string]discover.Source[int, string]{
		"List":    discover.List("a"),
		"Channel": discover.Channel(changes),
		"Map":     discover.Map(discover.List("a"), func(_ int, s string) string { return s }),
	}
	for name, source := range sources {
		for range 20 { // select has a choice
			if c, err := source.Next(ended(t)); !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: %v, %v, want the context's error", name, c, err)
			}
		}
		if got, _ := collect(t.Context(), source); len(got) != 1 {
			t.Errorf("%s: %v is left, want one change", name, got)
		}
	}
}

func TestChannelWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		changes := make(chan change)
		source := discover.Channel(changes)
		ctx, cancel := context.WithCancel(t.Context())
		var got []change
		var err error
		go func() { got, err = collect(ctx, source) }()
		changes <- discover.Insert(1, "a")
		changes <- discover.Remove[string](1)
		synctest.Wait()
		if err != nil {
			t.Fatalf("ended with %v, though more may come", err)
		}
		cancel()
		synctest.Wait()
		want := []change{{Key: 1, Service: "a"}, {Key: 1, Gone: true}}
		if !slices.Equal(got, want) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, %v, want %v and the context's error", got, err, want)
		}
	})
}

func TestMap(t *testing.T) {
	changes := make(chan change, 3)
	changes <- discover.Insert(1, "a")
	changes <- discover.Remove[string](1)
	changes <- discover.Insert(1, "bb")
	close(changes)
	calls := 0
	got, err := collect(t.Context(), discover.Map(discover.Channel(changes), func(key int, s string) int {
		calls++
		return key + len(s)
	}))
	want := []discover.Change[int, int]{{Key: 1, Service: 2}, {Key: 1, Gone: true}, {Key: 1, Service: 3}}
	if !slices.Equal(got, want) || !errors.Is(err, io.EOF) || calls != 2 {
		t.Errorf("got %v, %v, %d calls, want %v, EOF and 2", got, err, calls, want)
	}
}

func TestMapPassesErrors(t *testing.T) {
	_, err := discover.Map(broken{}, func(int, string) string { return "" }).Next(t.Context())
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the source's error", err)
	}
}

type broken struct{}

func (broken) Next(context.Context) (change, error) { return change{}, io.ErrUnexpectedEOF }

func TestBadInput(t *testing.T) {
	tests := map[string]func(){
		"discover: Channel: channel is nil, must be non-nil": func() { discover.Channel[int, string](nil) },
		"discover: Map: function is nil, must be non-nil":    func() { discover.Map[int, string, string](discover.List("a"), nil) },
	}
	for want, f := range tests {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); got != want {
					t.Errorf("panic %v, want %q", got, want)
				}
			}()
			f()
		}()
	}
}
