package limit_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/turrettest"
)

func ones(string) turret.Gate { return limit.NewConcurrency(1, limit.Queue{}) }

func TestKeyedIsAGate(t *testing.T) {
	for name, keys := range map[string]int{"own gate": 10, "shared gate": 1} {
		t.Run(name, func(t *testing.T) {
			turrettest.TestGate(t, func(t *testing.T) (turret.Gate, int) {
				k := limit.NewKeyed(limit.KeyedConfig{MaxKeys: keys, New: func(string) turret.Gate {
					return limit.NewConcurrency(3, limit.Queue{Max: 10})
				}})
				if _, err := k.TryEnter(t.Context(), "other"); err != nil {
					t.Fatal(err)
				}
				return k.By(func(context.Context) string { return "key" }), 3
			})
		})
	}
}

func TestKeysDoNotTakeEachOthersPlaces(t *testing.T) {
	k := limit.NewKeyed(limit.KeyedConfig{New: ones})
	a, err := k.Enter(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Enter(t.Context(), "a"); !errors.Is(err, limit.ErrFull) {
		t.Errorf("a again: %v, want ErrFull", err)
	}
	b, err := k.Enter(t.Context(), "b")
	if err != nil {
		t.Errorf("b: %v", err)
	}
	k.Leave(a, turret.Success)
	k.Leave(b, turret.Success)
	if s := k.Stats(); s.Keys != 2 || s.Idle != 2 {
		t.Errorf("%+v", s)
	}
}

// Keys that hold something keep their gates; those beyond MaxKeys share one, and
// those that hold nothing make room, used longest ago first.
func TestKeysAreBounded(t *testing.T) {
	var made []string
	k := limit.NewKeyed(limit.KeyedConfig{MaxKeys: 2, New: func(key string) turret.Gate {
		made = append(made, key)
		return ones(key)
	}})
	enter := func(key string) turret.Ticket {
		t.Helper()
		ticket, err := k.Enter(t.Context(), key)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		return ticket
	}
	a, b, c := enter("a"), enter("b"), enter("c")
	if _, err := k.Enter(t.Context(), "d"); !errors.Is(err, limit.ErrFull) {
		t.Errorf("d: %v, want ErrFull of the gate that it shares with c", err)
	}
	k.Leave(a, turret.Success)
	k.Leave(b, turret.Success)
	k.Leave(enter("a"), turret.Success) // b was used longest ago now
	e := enter("e")
	k.Leave(enter("a"), turret.Success)
	k.Leave(c, turret.Success)
	k.Leave(e, turret.Success)
	if got := fmt.Sprint(made); got != "[a b  e]" {
		t.Errorf("gates were made for %v", got)
	}
	if s := k.Stats(); s != (limit.KeyedStats{MaxKeys: 2, Keys: 2, Idle: 2, Evicted: 1, Shared: 2}) {
		t.Errorf("%+v", s)
	}
}

func TestAMillionKeysNeedLittleMemory(t *testing.T) {
	k := limit.NewKeyed(limit.KeyedConfig{MaxKeys: 1000})
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	for i := range manyKeys {
		ticket, err := k.Enter(t.Context(), fmt.Sprintf("%0*d", 20+i%7, i))
		if err != nil {
			t.Fatal(err)
		}
		k.Leave(ticket, turret.Success)
	}
	if s := k.Stats(); s.Keys != 1000 || s.Idle != 1000 || s.Evicted != manyKeys-1000 {
		t.Errorf("%+v", s)
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("%d bytes more for 1,000 keys", grown)
	}
	runtime.KeepAlive(k)
}

// TestLongKeysHaveOneName gives New long keys in two Keyeds, as two processes have
// them: their names are short, and the same in both.
func TestLongKeysHaveOneName(t *testing.T) {
	for name, long := range map[string]string{
		"ASCII":         strings.Repeat("x", 129),
		"wide":          strings.Repeat("\U0001F600", 100),
		"cut in a rune": "a" + strings.Repeat("é", 100),
		"not UTF-8":     strings.Repeat("\xff", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			var names []string
			for range 2 {
				k := limit.NewKeyed(limit.KeyedConfig{New: func(key string) turret.Gate {
					names = append(names, key)
					return ones(key)
				}})
				if _, err := k.Enter(t.Context(), long); err != nil {
					t.Fatal(err)
				}
			}
			if len(names) != 2 || names[0] != names[1] || len(names[0]) > 128 || !utf8.ValidString(names[0]) {
				t.Errorf("a key of %d bytes has the names %q, want one of at most 128 bytes", len(long), names)
			}
		})
	}
}

func TestLongKeysAreToldApart(t *testing.T) {
	k := limit.NewKeyed(limit.KeyedConfig{New: ones})
	long := strings.Repeat("x", 1<<20)
	if _, err := k.Enter(t.Context(), long+"a"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Enter(t.Context(), long+"b"); err != nil {
		t.Errorf("another long key: %v", err)
	}
	if _, err := k.Enter(t.Context(), long+"a"); !errors.Is(err, limit.ErrFull) {
		t.Errorf("the same long key: %v, want ErrFull", err)
	}
}

// Gates that keep something in their tickets, and that panic.
func TestKeyedPassesTicketsOn(t *testing.T) {
	k := limit.NewKeyed(limit.KeyedConfig{New: func(key string) turret.Gate {
		if key == "breaker" {
			return breaker.New(breaker.Config{})
		}
		return refGate{}
	}})
	for _, key := range []string{"breaker", "ref"} {
		ticket, err := k.Enter(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		k.Leave(ticket, turret.Success)
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = k.TryEnter(t.Context(), "ref") // panics
	}()
	if s := k.Stats(); s.Idle != 2 {
		t.Errorf("%+v: a gate that panicked is still in use", s)
	}
}

// refGate wants its Ref back, and panics in TryEnter.
type refGate struct{ turret.Gate }

func (refGate) Enter(context.Context) (turret.Ticket, error) {
	return turret.Ticket{Start: 1, Data: 2, Ref: "mine"}, nil
}

func (refGate) TryEnter(context.Context) (turret.Ticket, error) { panic("no") }

func (refGate) Leave(t turret.Ticket, _ turret.Outcome) {
	if t != (turret.Ticket{Start: 1, Data: 2, Ref: "mine"}) {
		panic(fmt.Sprintf("another ticket: %v", t))
	}
}

func TestKeyedConfigNamesTheInvalidField(t *testing.T) {
	for _, n := range []int{-1, 10_000_001} {
		c := limit.KeyedConfig{MaxKeys: n}
		err := c.Validate()
		if e, ok := errors.AsType[*turret.FieldError](err); !ok || e.Field != "MaxKeys" {
			t.Errorf("%+v: %v", c, err)
		}
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "limit: NewKeyed: MaxKeys is ") {
					t.Errorf("panics with %q", p)
				}
			}()
			limit.NewKeyed(c)
		}()
	}
}

func TestKeyedAllocatesNothingForKnownKeys(t *testing.T) {
	k := limit.NewKeyed(limit.KeyedConfig{})
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		ticket, _ := k.Enter(ctx, "key")
		k.Leave(ticket, turret.Success)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Many goroutines over few keys and fewer gates lose no place and keep the bound.
func TestKeyedUnderLoad(t *testing.T) {
	k := limit.NewKeyed(limit.KeyedConfig{MaxKeys: 3, New: ones})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				ticket, err := k.Enter(t.Context(), fmt.Sprint((i+j)%7))
				runtime.Gosched()
				if err == nil {
					k.Leave(ticket, turret.Success)
				}
				if s := k.Stats(); s.Keys > 3 {
					t.Errorf("%+v", s)
				}
				_ = k.String()
			}
		})
	}
	wg.Wait()
	if s := k.Stats(); s.Idle != s.Keys {
		t.Errorf("%+v: all have left", s)
	}
	if n := turret.Describe(k, 1); n.Kind != "per_key" || len(n.Figures) != 5 {
		t.Errorf("%+v", n)
	}
}

func ExampleKeyed() {
	tenants := limit.NewKeyed(limit.KeyedConfig{New: func(string) turret.Gate {
		return limit.NewTokenBucket(limit.PerSecond(2), limit.Queue{})
	}})
	for _, tenant := range []string{"a", "a", "a", "b"} {
		_, err := tenants.Enter(context.Background(), tenant)
		fmt.Println(tenant, errors.Is(err, limit.ErrRate))
	}
	// Output:
	// a false
	// a false
	// a true
	// b false
}
