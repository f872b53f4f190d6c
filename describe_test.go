package turret_test

import (
	"context"
	"encoding/json"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

// describer is a Describer made of a function.
type describer func(d *turret.Description)

func (f describer) Describe(d *turret.Description) { f(d) }

// asJSON writes n as users of a page would see it.
func asJSON(t *testing.T, n turret.Node) string {
	t.Helper()
	text, err := json.Marshal(n)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	return string(text)
}

func TestDescribeWritesStableJSON(t *testing.T) {
	x := describer(func(d *turret.Description) {
		d.Is("limit", "concurrency limit")
		d.Named("front")
		d.Setting("max", "{call}", uint8(3))
		d.Setting("timeout", "", 1500*time.Millisecond)
		d.Setting("order", "", turret.KindOverloaded)
		d.Setting("nothing", "", nil)
		d.Gauge("in_flight", "{call}", 2)
		d.Gauge("load", "1", math.Inf(1))
		d.Count("refused", "{call}", "LIMIT_FULL", 7)
		d.Total("wait", "s", "", 0.5)
		d.State("state", "open")
		d.Inside(describer(func(d *turret.Description) { d.Is("leaf", "") }))
		d.Inside(nil)
		d.LeftOut(4)
		d.LeftOut(-1)
	})
	const want = `{"kind":"limit","name":"front","title":"concurrency limit","figures":[` +
		`{"name":"max","kind":"setting","unit":"{call}","value":3},` +
		`{"name":"timeout","kind":"setting","unit":"s","value":1.5,"text":"1.5s"},` +
		`{"name":"order","kind":"setting","value":0,"text":"Overloaded"},` +
		`{"name":"nothing","kind":"setting","value":0,"text":"\u003cnil\u003e"},` +
		`{"name":"in_flight","kind":"gauge","unit":"{call}","value":2},` +
		`{"name":"load","kind":"gauge","unit":"1","value":0,"text":"+Inf"},` +
		`{"name":"refused","kind":"counter","unit":"{call}","reason":"LIMIT_FULL","value":7},` +
		`{"name":"wait","kind":"counter","unit":"s","value":0.5},` +
		`{"name":"state","kind":"state","value":0,"text":"open"}],` +
		`"children":[{"kind":"leaf"}],"more":4}`
	got := asJSON(t, turret.Describe(x, 0))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var back turret.Node
	if err := json.Unmarshal([]byte(got), &back); err != nil {
		t.Fatalf("Unmarshal: %v", err)
	}
	if again := asJSON(t, back); again != want {
		t.Errorf("read and written again: %s", again)
	}
}

func TestFigureKindReadsWhatItWrites(t *testing.T) {
	for kind := turret.Setting; kind <= turret.State; kind++ {
		text, err := kind.MarshalText()
		var back turret.FigureKind
		if err != nil || back.UnmarshalText(text) != nil || back != kind {
			t.Errorf("%v: wrote %q, %v, read %v", uint8(kind), text, err, back)
		}
	}
	if got := turret.FigureKind(9).String(); got != "FigureKind(9)" {
		t.Errorf("unknown kind is %s", got)
	}
	var k turret.FigureKind
	if err := k.UnmarshalText([]byte("FigureKind(9)")); err == nil || !strings.Contains(err.Error(), "FigureKind(9)") {
		t.Errorf("reading an unknown kind: %v", err)
	}
}

// plainGate is a gate that is no Describer.
type plainGate struct{ turret.Gate }

func (plainGate) String() string { return "a turnstile" }

// namedGate has figures of its own.
type namedGate struct{ turret.Gate }

func (namedGate) Describe(d *turret.Description) {
	d.Is("turnstile", "turnstile")
	d.Gauge("in_flight", "{call}", 1)
}

// plainLayer embeds the inner service, as the documentation of Layer says.
type plainLayer struct{ turret.Service[int, int] }

// outerLayer embeds something else than what it passes calls on to.
type outerLayer struct {
	turret.Service[int, int]

	next turret.Service[int, int]
}

func (o *outerLayer) Inner() any { return o.next }

func TestDescribeFindsTheLayersOfAService(t *testing.T) {
	leaf := turret.ServiceFunc(func(_ context.Context, n int) (int, error) { return n, nil })
	service := turret.Stack(
		turret.Gated[int, int](plainGate{}, nil),
		func(s turret.Service[int, int]) turret.Service[int, int] { return plainLayer{s} },
		func(s turret.Service[int, int]) turret.Service[int, int] { return &outerLayer{&plainLayer{s}, s} },
		turret.Gated[int, int](namedGate{}, nil),
	)(leaf)
	const want = `{"kind":"service","title":"4 layers","children":[` +
		`{"kind":"turret_test.plainGate","title":"a turnstile"},` +
		`{"kind":"turret_test.plainLayer"},` +
		`{"kind":"*turret_test.outerLayer"},` +
		`{"kind":"turnstile","title":"turnstile","figures":[{"name":"in_flight","kind":"gauge","unit":"{call}","value":1}]}]}`
	if got := asJSON(t, turret.Describe(service, 0)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	inside := describer(func(d *turret.Description) { d.Is("channel", ""); d.Chain(service, nil) })
	if got := turret.Describe(inside, 0); len(got.Children) != 4 || got.Children[3].Kind != "turnstile" {
		t.Errorf("a chain inside something else: %s", asJSON(t, got))
	}
}

func TestDescribeShowsWhatIsNoDescriberByItsType(t *testing.T) {
	for want, x := range map[string]any{
		`{"kind":"\u003cnil\u003e"}`:                             nil,
		`{"kind":"int"}`:                                         7,
		`{"kind":"time.Duration","title":"2s"}`:                  2 * time.Second,
		`{"kind":"*turret_test.plainLayer"}`:                     (*plainLayer)(nil),
		`{"kind":"turret_test.plainLayer"}`:                      plainLayer{},
		`{"kind":"turret_test.describer"}`:                       describer(func(*turret.Description) {}),
		`{"kind":"turret_test.plainGate","title":"a turnstile"}`: describer(func(d *turret.Description) { d.Forward(plainGate{}) }),
	} {
		if got := asJSON(t, turret.Describe(x, 0)); got != want {
			t.Errorf("%T: got %s, want %s", x, got, want)
		}
	}
}

func TestDescriptionKeepsWhatTheOutermostSays(t *testing.T) {
	x := describer(func(d *turret.Description) {
		d.Named("")
		d.Named("outer")
		d.Is("outer", "outer title")
		d.Forward(describer(func(d *turret.Description) {
			d.Named("inner")
			d.Is("inner", "inner title")
			d.Gauge("in_flight", "{call}", 1)
		}))
	})
	const want = `{"kind":"outer","name":"outer","title":"outer title","figures":[{"name":"in_flight","kind":"gauge","unit":"{call}","value":1}]}`
	if got := asJSON(t, turret.Describe(x, 0)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// whatIsWrong returns the State "description" of n.
func whatIsWrong(n turret.Node) string {
	for _, f := range n.Figures {
		if f.Name == "description" && f.Kind == turret.State {
			return f.Text
		}
	}
	return ""
}

func fine(d *turret.Description) { d.Is("fine", "") }

func TestDescribeSurvivesADescriberThatPanics(t *testing.T) {
	n := turret.Describe(describer(func(d *turret.Description) {
		d.Is("stack", "")
		d.Inside(describer(func(d *turret.Description) { d.Is("bad", "before"); d.Gauge("kept", "1", 1); panic("boom") }))
		d.Inside(describer(func(*turret.Description) { runtime.Goexit() }))
		d.Inside((*outerLayer)(nil)) // has a type and nothing else
		d.Inside(describer(fine))
	}), 0)
	if len(n.Children) != 4 || n.Children[3].Kind != "fine" {
		t.Fatalf("the rest is missing: %s", asJSON(t, n))
	}
	if bad := n.Children[0]; bad.Title != "before" || bad.Figures[0].Name != "kept" || whatIsWrong(bad) != "panicked: boom" {
		t.Errorf("of the one that panicked: %s", asJSON(t, bad))
	}
	if got := whatIsWrong(n.Children[1]); got != "called runtime.Goexit" {
		t.Errorf("of the one that exited: %q", got)
	}
}

// blocked is a Describer that does not answer while its mutex is locked, as one
// that needs the lock of a call.
type blocked struct{ free chan struct{} }

func (b *blocked) Describe(d *turret.Description) { <-b.free; d.Is("blocked", "") }

func TestDescribeGivesUpADescriberThatBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &blocked{make(chan struct{})}
		x := describer(func(d *turret.Description) {
			d.Is("stack", "")
			d.Inside(b)
			d.Inside(describer(fine))
		})
		for _, want := range []string{"no answer", "not asked: has not answered an earlier question yet"} {
			start := time.Now()
			n := turret.Describe(x, 0)
			if took := time.Since(start); took > time.Second {
				t.Errorf("took %v", took)
			}
			if got := whatIsWrong(n.Children[0]); got != want || n.Children[0].Kind != "*turret_test.blocked" {
				t.Errorf("of the one that blocks: %s, want %q", asJSON(t, n.Children[0]), want)
			}
			if n.Children[1].Kind != "fine" {
				t.Errorf("the rest is missing: %s", asJSON(t, n))
			}
		}
		close(b.free)
		synctest.Wait()
		if got := turret.Describe(x, 0).Children[0].Kind; got != "blocked" {
			t.Errorf("once it answers again it is %q", got)
		}
	})
}

func TestDescribeEndsWhenManyBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		x := describer(func(d *turret.Description) {
			d.Is("stack", "")
			for range 100 {
				d.Inside(&blocked{free})
			}
		})
		start := time.Now()
		n := turret.Describe(x, 0)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		for i, child := range n.Children {
			if whatIsWrong(child) == "" {
				t.Errorf("child %d says nothing: %s", i, asJSON(t, child))
			}
		}
		if got := whatIsWrong(n.Children[99]); got != "not asked: the time was over" {
			t.Errorf("the last one: %q", got)
		}
		close(free)
		synctest.Wait()
		if got := turret.Describe(x, 0); got.Children[99].Kind != "blocked" {
			t.Errorf("afterwards: %s", asJSON(t, got))
		}
	})
}

// A Describer of a type that cannot be compared must not break the record of
// those that have not answered.
type incomparable struct {
	free chan struct{}
	_    []int
}

func (b incomparable) Describe(*turret.Description) { <-b.free }

func TestDescribeGivesUpWhatCannotBeCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := incomparable{free: make(chan struct{})}
		if got := whatIsWrong(turret.Describe(b, 0)); got != "no answer" {
			t.Errorf("first: %q", got)
		}
		if got := whatIsWrong(turret.Describe(b, 0)); !strings.HasPrefix(got, "not asked") {
			t.Errorf("second: %q", got)
		}
		close(b.free)
		synctest.Wait()
		if got := whatIsWrong(turret.Describe(b, 0)); got != "" {
			t.Errorf("once it answers: %q", got)
		}
	})
}

func TestDescribeBoundsTheTree(t *testing.T) {
	many := describer(func(d *turret.Description) {
		d.Is("many", strings.Repeat("x", 5000))
		for i := range 1_000_000 {
			d.Inside(describer(fine))
			if i < 1000 {
				d.Gauge("figure"+strconv.Itoa(i), "1", 0)
			}
		}
	})
	n := turret.Describe(many, 0)
	if len(n.Children) != 1000 || n.More != 999_000 {
		t.Errorf("%d children and %d more", len(n.Children), n.More)
	}
	if len(n.Title) > 1024 || len(n.Figures) > 257 || whatIsWrong(n) != "744 figures left out" {
		t.Errorf("%d bytes of title, %d figures, %q", len(n.Title), len(n.Figures), whatIsWrong(n))
	}

	var endless describer
	endless = func(d *turret.Description) { d.Is("endless", ""); d.Inside(endless); d.Inside(endless) }
	if got := count(turret.Describe(endless, 0)); got != 10_000 {
		t.Errorf("a Describer inside itself makes %d nodes", got)
	}
	var deep describer
	deep = func(d *turret.Description) { d.Is("deep", ""); d.Inside(deep) }
	if got := count(turret.Describe(deep, 0)); got != 32 {
		t.Errorf("a Describer inside itself makes %d levels", got)
	}
	var around describer
	around = func(d *turret.Description) { d.Forward(around) }
	if got := whatIsWrong(turret.Describe(around, 0)); got != "forwards without end" {
		t.Errorf("a Describer that forwards to itself: %q", got)
	}
}

func count(n turret.Node) int {
	sum := 1
	for _, child := range n.Children {
		sum += count(child)
	}
	return sum
}

func TestDescribeAsksForAsManyAsAreWanted(t *testing.T) {
	x := describer(func(d *turret.Description) {
		d.Is("balancer", "")
		for range d.Most() {
			d.Inside(describer(fine))
		}
		d.LeftOut(5000 - d.Most())
	})
	for most, want := range map[int]int{-1: 100, 0: 100, 7: 7, 3000: 3000} {
		n := turret.Describe(x, most)
		if len(n.Children) != want || n.More != 5000-want {
			t.Errorf("most %d: %d children and %d more", most, len(n.Children), n.More)
		}
	}
}

func TestDescribeMayRunConcurrently(t *testing.T) {
	x := describer(func(d *turret.Description) {
		d.Is("stack", "")
		for range 20 {
			d.Inside(describer(fine))
		}
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got := count(turret.Describe(x, 0)); got != 21 {
					t.Errorf("%d nodes", got)
				}
			}
		})
	}
	wg.Wait()
}

// A sharedGate is a gate that two layers share.
type sharedGate struct{ turret.Gate }

func (*sharedGate) Describe(d *turret.Description) {
	d.Is("gate", "gate")
	d.Count("entered", "{call}", "", 3)
}

// What is shared is described where it stands, and marked the second time. Equal
// values at different addresses, and values without one, are not the same.
func TestDescribeMarksWhatIsShared(t *testing.T) {
	gate, other := &sharedGate{}, &sharedGate{}
	layer := func(g turret.Gate) turret.Layer[int, int] { return turret.Gated[int, int](g, nil) }
	value := describer(func(d *turret.Description) { d.Is("value", "") })
	root := describer(func(d *turret.Description) {
		d.Is("root", "")
		leaf := turret.ServiceFunc(func(context.Context, int) (int, error) { return 0, nil })
		for _, child := range []any{layer(gate)(leaf), gate, layer(other)(leaf), value, value, layer(gate)(leaf)} {
			d.Inside(child)
		}
	})
	for range 2 { // each tree begins anew
		var again []bool
		for _, n := range turret.Describe(root, 0).Children {
			again = append(again, n.Again)
		}
		if want := []bool{false, true, false, false, false, true}; !slices.Equal(again, want) {
			t.Errorf("again: %v, want %v", again, want)
		}
	}
}
