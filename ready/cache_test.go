package ready_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/discover"
	"github.com/turret-go/turret/ready"
)

// drops is what a cache said about services that left it.
type drops struct {
	mu   sync.Mutex
	list []string
}

func (d *drops) add(key int, _ *door, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, fmt.Sprint(key, " ", err))
}

// take returns what was dropped since it was last called, sorted.
func (d *drops) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	slices.Sort(list)
	return list
}

func (d *drops) want(t *testing.T, want ...string) {
	t.Helper()
	if got := d.take(); !slices.Equal(got, want) {
		t.Errorf("dropped %q, want %q", got, want)
	}
}

type cache = ready.Cache[int, *door]

// newCache returns a cache that is closed when the bubble ends.
func newCache(t *testing.T) (*cache, *drops) {
	d := &drops{}
	c := ready.NewCache(d.add)
	t.Cleanup(c.Close)
	return c, d
}

// keys returns the keys of the members, sorted.
func keys(c *cache) []int {
	var list []int
	for _, m := range c.Members() {
		list = append(list, m.Key)
	}
	slices.Sort(list)
	return list
}

func wantKeys(t *testing.T, c *cache, want ...int) {
	t.Helper()
	synctest.Wait()
	if got := keys(c); !slices.Equal(got, want) {
		t.Errorf("ready: %v, want %v", got, want)
	}
}

func wantLen(t *testing.T, c *cache, ready, pending int) {
	t.Helper()
	synctest.Wait()
	if r, p := c.Len(); r != ready || p != pending {
		t.Errorf("%d ready and %d pending, want %d and %d", r, p, ready, pending)
	}
}

func TestListsWhatIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dropped := newCache(t)
		wantKeys(t, c)
		shut := &door{}
		c.Insert(1, opened())
		c.Insert(2, shut)
		c.Insert(3, opened())
		wantKeys(t, c, 1, 3)
		wantLen(t, c, 2, 1)
		if !c.Pending(2) || c.Pending(1) || c.Pending(9) {
			t.Error("Pending is to be true of 2 alone")
		}
		if m, ok := c.Get(3); !ok || m.Key != 3 {
			t.Errorf("Get(3) is %v, %t", m, ok)
		}
		if _, ok := c.Get(2); ok {
			t.Error("Get(2) has a service that is not ready")
		}
		shut.set(true, nil)
		wantKeys(t, c, 1, 2, 3)
		dropped.want(t)
	})
}

func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dropped := newCache(t)
		d := opened()
		c.Insert(1, d)
		synctest.Wait()
		m := c.Members()[0]
		if !c.Check(m) {
			t.Error("not ready, though it is")
		}
		d.set(false, nil)
		wantKeys(t, c, 1) // not noticed yet
		if c.Check(m) {
			t.Error("ready, though it is not")
		}
		wantLen(t, c, 0, 1)
		if c.Check(m) || d.asking() != 1 {
			t.Errorf("checked twice: %d questions are asked, want 1", d.asking())
		}
		d.set(true, nil)
		wantKeys(t, c, 1)
		if !c.Check(m) {
			t.Error("not ready, though it is again")
		}
		d.set(false, errBroken)
		if c.Check(m) {
			t.Error("ready, though it has failed")
		}
		wantLen(t, c, 0, 0)
		dropped.want(t, "1 broken")
		c.Insert(1, opened())
		wantKeys(t, c, 1)
		if c.Check(m) {
			t.Error("a member stands for another service of its key")
		}
	})
}

func TestDropsWhatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dropped := newCache(t)
		waits, is := &door{}, &door{err: errBroken}
		c.Insert(1, waits)
		c.Insert(2, is)
		wantLen(t, c, 0, 1)
		dropped.want(t, "2 broken")
		waits.set(false, errBroken)
		wantLen(t, c, 0, 0)
		dropped.want(t, "1 broken")
		c.Insert(2, opened()) // the key may be used again
		wantKeys(t, c, 2)
	})
}

func TestRemove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dropped := newCache(t)
		shut, open := &door{}, opened()
		c.Insert(1, shut)
		c.Insert(2, open)
		synctest.Wait()
		m, _ := c.Get(2)
		if !c.Remove(1) || !c.Remove(2) || c.Remove(2) || c.Remove(3) {
			t.Error("Remove is to be true once of what is there")
		}
		wantLen(t, c, 0, 0)
		dropped.want(t, "1 <nil>", "2 <nil>")
		if shut.asking() != 0 {
			t.Error("a service that was removed is still asked")
		}
		if c.Check(m) {
			t.Error("a service that was removed is ready")
		}
		shut.set(true, nil)
		wantLen(t, c, 0, 0)
	})
}

// The old service stays in use until the new one is ready, or it is not ready
// itself.
func TestReplace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dropped := newCache(t)
		service := func() *door {
			m, ok := c.Get(1)
			if !ok {
				return nil
			}
			return m.Service
		}
		first, second, third := opened(), &door{}, &door{}
		c.Insert(1, first)
		synctest.Wait()
		c.Insert(1, second)
		wantLen(t, c, 1, 1)
		if service() != first {
			t.Error("the old service is gone before the new one is ready")
		}
		c.Insert(1, third) // the second never was ready
		wantLen(t, c, 1, 1)
		dropped.want(t, "1 <nil>")
		third.set(true, nil)
		wantLen(t, c, 1, 0)
		dropped.want(t, "1 <nil>")
		if service() != third {
			t.Error("the new service is ready and not used")
		}
		m, _ := c.Get(1)
		c.Insert(1, &door{})
		synctest.Wait()
		third.set(false, nil)
		if c.Check(m) {
			t.Error("ready, though it is not")
		}
		wantLen(t, c, 0, 1)
		dropped.want(t, "1 <nil>") // a newer one is waited for: this one is not asked again
		if third.asking() != 0 {
			t.Error("a service that was dropped is still asked")
		}
	})
}

// Both of a key may go at once, and a new one may fail while an old one serves.
func TestTwoUnderOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dropped := newCache(t)
		c.Insert(1, opened())
		synctest.Wait()
		c.Insert(1, &door{err: errBroken})
		wantLen(t, c, 1, 0)
		dropped.want(t, "1 broken")
		c.Insert(1, &door{})
		wantLen(t, c, 1, 1)
		if !c.Remove(1) {
			t.Error("nothing was removed")
		}
		wantLen(t, c, 0, 0)
		dropped.want(t, "1 <nil>", "1 <nil>")
	})
}

func TestReadyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCache(t)
		if err := turret.IsFinal(c.Ready(ended(t))); err {
			t.Errorf("empty: %v, want an error that is not final", err)
		}
		var got atomic.Int64
		for range 3 {
			go func() {
				if c.Ready(t.Context()) == nil {
					got.Add(1)
				}
			}()
		}
		shut := &door{}
		c.Insert(1, shut)
		synctest.Wait()
		if got.Load() != 0 {
			t.Fatal("ready, with a service that is not")
		}
		shut.set(true, nil)
		synctest.Wait()
		if got.Load() != 3 || c.Ready(ended(t)) != nil {
			t.Errorf("%d of 3 know that there is a service", got.Load())
		}
		shut.set(false, nil)
		c.Check(c.Members()[0])
		if err := c.Ready(ended(t)); !errors.Is(err, turret.ErrNotReady) {
			t.Errorf("none is ready any more: %v, want ErrNotReady", err)
		}
	})
}

func ended(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestReadySaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCache(t)
		why := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return c.Ready(ctx)
		}
		err := why()
		if want := "context deadline exceeded: no service is ready, 0 pending"; err == nil || err.Error() != want {
			t.Errorf("empty: %v, want %q", err, want)
		}
		c.Insert(7, &door{err: errBroken})
		c.Insert(8, &door{})
		err = why()
		if want := "context deadline exceeded: no service is ready, 1 pending, the last one that failed: 7: broken"; err == nil || err.Error() != want {
			t.Errorf("one failed: %v, want %q", err, want)
		}
		for _, target := range []error{turret.ErrNotReady, context.DeadlineExceeded, errBroken} {
			if !errors.Is(err, target) {
				t.Errorf("%v does not match %v", err, target)
			}
		}
		c.Insert(9, opened()) // what was before is past
		synctest.Wait()
		c.Remove(9)
		if err := why(); errors.Is(err, errBroken) {
			t.Errorf("%v tells of a failure before one was ready", err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dropped := newCache(t)
		shut := &door{}
		c.Insert(1, shut)
		c.Insert(2, opened())
		c.Insert(3, opened())
		synctest.Wait()
		m, _ := c.Get(2)
		c.Remove(3)
		dropped.want(t, "3 <nil>")
		c.Close()
		c.Close()
		dropped.want(t, "1 <nil>", "2 <nil>")
		wantLen(t, c, 0, 0)
		if shut.asking() != 0 || c.Check(m) {
			t.Error("something goes on")
		}
		c.Insert(4, opened())
		dropped.want(t, "4 <nil>")
		for _, ctx := range []context.Context{t.Context(), ended(t)} {
			if err := c.Ready(ctx); !errors.Is(err, ready.ErrClosed) || !turret.IsFinal(err) {
				t.Errorf("Ready: %v, want ErrClosed, which is final", err)
			}
		}
	})
}

func TestCloseWakesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCache(t)
		var err error
		go func() { err = c.Ready(t.Context()) }()
		synctest.Wait()
		c.Close()
		synctest.Wait()
		if !errors.Is(err, ready.ErrClosed) {
			t.Errorf("Ready: %v, want ErrClosed", err)
		}
	})
}

// The zero of everything: no callback, nothing in it.
func TestCacheWithoutCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := ready.NewCache[string, *door](nil)
		c.Insert("a", opened())
		synctest.Wait()
		if !c.Remove("a") || len(c.Members()) != 0 {
			t.Error("it was not removed")
		}
		c.Insert("a", &door{})
		c.Close()
	})
}

// A snapshot stays what it was, so no index can come to stand for another
// service, as one of Tower's can (tower issue 856).
func TestMembersDoNotChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newCache(t)
		for key := range 5 {
			c.Insert(key, opened())
		}
		synctest.Wait()
		before := c.Members()
		want := slices.Clone(before)
		c.Remove(before[0].Key)
		c.Remove(before[2].Key)
		c.Insert(9, opened())
		synctest.Wait()
		if !slices.Equal(before, want) {
			t.Error("a list that was handed out has changed")
		}
		wantLen(t, c, 4, 0)
		if c.Check(before[0]) || !c.Check(before[1]) {
			t.Error("Check is to be false of what was removed alone")
		}
	})
}

func TestMembersAllocate(t *testing.T) {
	c := ready.NewCache[int, *door](nil)
	defer c.Close()
	for key := range 100 {
		c.Insert(key, opened())
	}
	if err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 100; n, _ = c.Len() {
		runtime.Gosched()
	}
	if got := testing.AllocsPerRun(100, func() { c.Check(c.Members()[7]) }); got != 0 {
		t.Errorf("%v allocations, want none while nothing changes", got)
	}
}

// A service that panics, or exits, when it is asked has failed; the process goes
// on.
func TestServiceThatPanics(t *testing.T) {
	for name, f := range map[string]func(){"panic": func() { panic("secret") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var why error
				c := ready.NewCache(func(_ int, _ readyFunc, err error) { why = err })
				defer c.Close()
				c.Insert(1, func(context.Context) error { f(); return nil })
				synctest.Wait()
				if why == nil || strings.Contains(why.Error(), "secret") {
					t.Errorf("dropped with %v, want an error without the panic's text", why)
				}
			})
		})
	}
}

type readyFunc func(ctx context.Context) error

func (f readyFunc) Ready(ctx context.Context) error { return f(ctx) }

// A service that says "not ready" instead of waiting is asked again, but not in
// a hot loop.
func TestServiceThatDoesNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := ready.NewCache[int, readyFunc](nil)
		defer c.Close()
		var asked atomic.Int64
		c.Insert(1, func(context.Context) error {
			if asked.Add(1) <= 20 {
				return turret.ErrNotReady
			}
			return nil
		})
		began := time.Now()
		if err := c.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(began); waited != 2*time.Second {
			t.Errorf("asked %d times in %v, want 21 times in 2s", asked.Load(), waited)
		}
	})
}

// A callback may use the cache.
func TestCallbackCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c *cache
		c = ready.NewCache(func(key int, _ *door, err error) {
			if err != nil {
				c.Insert(key+1, opened())
			}
			_ = c.Members()
			_, _ = c.Len()
		})
		defer func() { c.Close() }()
		c.Insert(1, &door{err: errBroken})
		wantKeys(t, c, 2)
	})
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, dropped := newCache(t)
		if err := c.Follow(t.Context(), discover.List(opened(), opened())); err != nil {
			t.Errorf("a source that ends: %v, want nil", err)
		}
		wantKeys(t, c, 0, 1) // they stay
		changes := make(chan discover.Change[int, *door])
		ctx, cancel := context.WithCancel(t.Context())
		var err error
		go func() { err = c.Follow(ctx, discover.Channel(changes)) }()
		changes <- discover.Insert(5, opened())
		changes <- discover.Remove[*door](0)
		changes <- discover.Remove[*door](9) // unknown
		wantKeys(t, c, 1, 5)
		dropped.want(t, "0 <nil>")
		cancel()
		synctest.Wait()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v, want the context's error", err)
		}
		if err := c.Follow(t.Context(), brokenSource{}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("a source that fails: %v, want its error", err)
		}
		c.Close()
		dropped.take()
		if err := c.Follow(t.Context(), discover.List(opened())); !errors.Is(err, ready.ErrClosed) {
			t.Errorf("closed: %v, want ErrClosed", err)
		}
		dropped.want(t, "0 <nil>") // what comes too late has an owner too
	})
}

type brokenSource struct{}

func (brokenSource) Next(context.Context) (c discover.Change[int, *door], err error) {
	return c, io.ErrUnexpectedEOF
}

// TestCacheHammer uses a cache from many goroutines at once. Whatever comes in
// goes out, once.
func TestCacheHammer(t *testing.T) {
	var in, out atomic.Int64
	c := ready.NewCache(func(int, *door, error) { out.Add(1) })
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(i)))
			for range 500 {
				switch random.IntN(6) {
				case 0, 1:
					in.Add(1)
					d := &door{open: random.IntN(2) == 0}
					c.Insert(random.IntN(8), d)
					if random.IntN(4) == 0 {
						d.set(true, errBroken)
					}
				case 2:
					c.Remove(random.IntN(8))
				default:
					for _, m := range c.Members() {
						m.Service.set(random.IntN(3) > 0, nil)
						c.Check(m)
					}
				}
			}
		})
	}
	wg.Wait()
	c.Close()
	if in.Load() != out.Load() {
		t.Errorf("%d services came in and %d went out", in.Load(), out.Load())
	}
}

// A key that cannot be hashed is its sender's fault, and does no harm to the
// others.
func TestKeyWithoutHash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := ready.NewCache[any, *door](nil)
		defer c.Close()
		c.Insert("good", opened())
		for name, f := range map[string]func(){
			"Insert":  func() { c.Insert([]int{1}, opened()) },
			"Remove":  func() { c.Remove([]int{1}) },
			"Get":     func() { c.Get([]int{1}) },
			"Pending": func() { c.Pending([]int{1}) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s of a slice did not panic", name)
					}
				}()
				f()
			}()
		}
		synctest.Wait()
		if r, p := c.Len(); r != 1 || p != 0 {
			t.Errorf("%d ready and %d pending, want 1 and 0", r, p)
		}
	})
}
