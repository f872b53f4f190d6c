package turret_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

type callAll func(ctx context.Context, s turret.Service[int, int], reqs iter.Seq[int], n int) iter.Seq2[int, error]

var callAlls = map[string]callAll{
	"CallAll":          turret.CallAll[int, int],
	"CallAllUnordered": turret.CallAllUnordered[int, int],
}

// eachCallAll runs f in a bubble for both.
func eachCallAll(t *testing.T, f func(t *testing.T, all callAll)) {
	for name, all := range callAlls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, all) })
		})
	}
}

// numbers yields 0, 1, 2 ... up to n.
func numbers(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := range n {
			if !yield(i) {
				return
			}
		}
	}
}

// takes is a service that needs so many seconds and answers with its request. It
// heeds its context, and counts how many calls are inside.
type takes struct {
	inside, most, calls atomic.Int64
}

func (*takes) Ready(context.Context) error { return nil }

func (s *takes) Call(ctx context.Context, req int) (int, error) {
	s.calls.Add(1)
	if n := s.inside.Add(1); n > s.most.Load() {
		s.most.Store(n)
	}
	defer s.inside.Add(-1)
	timer := time.NewTimer(time.Duration(req) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
		return req, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func TestCallAllOrder(t *testing.T) {
	reqs := []int{5, 1, 3, 9, 4} // over after 5, 1, 3, 10 (begun at 1) and 7 seconds (begun at 3)
	want := map[string][]int{
		"CallAll":          reqs,
		"CallAllUnordered": {1, 3, 5, 4, 9},
	}
	for name, all := range callAlls {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &takes{}
				var got []int
				for res, err := range all(t.Context(), s, slices.Values(reqs), 3) {
					if err != nil {
						t.Error(err)
					}
					got = append(got, res)
				}
				if !slices.Equal(got, want[name]) {
					t.Errorf("got %v, want %v", got, want[name])
				}
				if s.most.Load() != 3 {
					t.Errorf("%d calls at a time, want 3", s.most.Load())
				}
			})
		})
	}
}

func TestCallAllOfNothing(t *testing.T) {
	eachCallAll(t, func(t *testing.T, all callAll) {
		for res, err := range all(t.Context(), &takes{}, numbers(0), 1) {
			t.Errorf("%d, %v, which no request asked for", res, err)
		}
	})
}

func TestCallAllBounds(t *testing.T) {
	eachCallAll(t, func(t *testing.T, all callAll) {
		for _, n := range []int{1, 7, math.MaxInt} {
			s := &takes{}
			count := 0
			for _, err := range all(t.Context(), s, numbers(20), n) {
				if err != nil {
					t.Error(err)
				}
				count++
			}
			if count != 20 || int(s.most.Load()) > n {
				t.Errorf("n %d: %d results, %d at a time", n, count, s.most.Load())
			}
		}
	})
	wantPanic(t, "turret: CallAll: n is 0, must be at least 1", func() { turret.CallAll(t.Context(), echo, nil, 0) })
	wantPanic(t, "turret: CallAllUnordered: n is -1, must be at least 1", func() { turret.CallAllUnordered(t.Context(), echo, nil, -1) })
}

// A slow loop holds back calls: results do not pile up.
func TestCallAllTakesNoMoreThanInHand(t *testing.T) {
	eachCallAll(t, func(t *testing.T, all callAll) {
		var taken int
		reqs := func(yield func(int) bool) {
			for {
				taken++
				if !yield(0) {
					return
				}
			}
		}
		seen := 0
		for _, err := range all(t.Context(), &takes{}, reqs, 3) {
			if err != nil {
				t.Error(err)
			}
			seen++
			synctest.Wait()
			if taken > seen+3 {
				t.Fatalf("%d requests taken, %d results yielded: want at most 3 in hand", taken, seen)
			}
			if seen == 10 {
				break
			}
		}
	})
}

// Results are not held back while the source of requests waits for the next one,
// here for ever: each request depends on the result before.
func TestCallAllDoesNotWaitForTheSource(t *testing.T) {
	eachCallAll(t, func(t *testing.T, all callAll) {
		next := make(chan int, 1)
		next <- 1
		reqs := func(yield func(int) bool) {
			for req := range next {
				if !yield(req) {
					return
				}
			}
		}
		var got []int
		for res, err := range all(t.Context(), &takes{}, reqs, 5) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, res)
			if res == 4 {
				close(next)
				continue
			}
			next <- res + 1
		}
		if want := []int{1, 2, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestCallAllGoesOnAfterErrors(t *testing.T) {
	odd := turret.ServiceFunc(func(_ context.Context, n int) (int, error) {
		if n%2 == 0 {
			return 0, errBoom
		}
		return n, nil
	})
	eachCallAll(t, func(t *testing.T, all callAll) {
		good, bad := 0, 0
		for _, err := range all(t.Context(), odd, numbers(10), 4) {
			if err == nil {
				good++
			} else if errors.Is(err, errBoom) {
				bad++
			}
		}
		if good != 5 || bad != 5 {
			t.Errorf("%d results and %d errors, want 5 of each", good, bad)
		}
	})
}

// Before each call it waits for readiness.
func TestCallAllWaitsForReadiness(t *testing.T) {
	eachCallAll(t, func(t *testing.T, all callAll) {
		inner := &takes{}
		s := turret.Gated[int, int](limit.NewConcurrency(2, limit.Queue{}), nil)(inner)
		count := 0
		for _, err := range all(t.Context(), s, slices.Values([]int{1, 2, 1, 2, 1, 1}), 2) {
			if err != nil {
				t.Errorf("call %d: %v", count, err)
			}
			count++
		}
		if count != 6 || inner.most.Load() != 2 {
			t.Errorf("%d results, %d at a time, want 6 and 2", count, inner.most.Load())
		}
	})
}

// A service that has failed for good ends the loop, with one error for the
// request in hand; what is in flight is still yielded.
func TestCallAllAndFailedService(t *testing.T) {
	eachCallAll(t, func(t *testing.T, all callAll) {
		s := &failing{failed: make(chan struct{}), answer: make(chan struct{})}
		taken := 0
		reqs := func(yield func(int) bool) {
			for ; yield(taken); taken++ {
			}
		}
		var results, failures int
		done := make(chan struct{})
		go func() {
			defer close(done)
			for res, err := range all(t.Context(), s, reqs, 10) {
				switch {
				case err == nil && res == 7:
					results++
				case errors.Is(err, errBoom) && errors.Is(err, turret.ErrNotReady):
					failures++
				default:
					t.Errorf("got %d, %v", res, err)
				}
			}
		}()
		synctest.Wait()
		close(s.failed)
		synctest.Wait()
		close(s.answer)
		<-done
		if results != 2 || failures != 1 || taken != 2 {
			t.Errorf("%d results, %d failures, %d requests before the last, want 2, 1 and 2", results, failures, taken)
		}
	})
}

// failing is ready twice, and fails for good when failed is closed. It answers 7
// when answer is closed.
type failing struct {
	asked          int
	failed, answer chan struct{}
}

func (s *failing) Ready(context.Context) error {
	if s.asked++; s.asked <= 2 {
		return nil
	}
	<-s.failed
	return errBoom
}

func (s *failing) Call(context.Context, int) (int, error) {
	<-s.answer
	return 7, nil
}

// A loop that is cut short says so, unless all was done.
func TestCallAllCancelled(t *testing.T) {
	eachCallAll(t, func(t *testing.T, all callAll) {
		s := &takes{}
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
		defer cancel()
		good, cut, unsent := 0, 0, 0
		for _, err := range all(ctx, s, slices.Values(slices.Repeat([]int{60}, 10)), 2) {
			switch {
			case err == nil:
				good++
			case errors.Is(err, turret.ErrNotReady) && errors.Is(err, context.DeadlineExceeded):
				unsent++
			case errors.Is(err, context.DeadlineExceeded):
				cut++
			default:
				t.Error(err)
			}
		}
		if good != 2 || cut != 2 || unsent != 1 {
			t.Errorf("%d results, %d cut short, %d not sent, want 2, 2 and 1", good, cut, unsent)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for _, err := range all(ended, s, numbers(0), 2) {
			t.Errorf("%v, though there was nothing to do", err)
		}
	})
}

// Leaving the loop, in whatever way, cancels what is in flight and waits for it.
func TestCallAllLeft(t *testing.T) {
	ways := map[string]func(){
		"panic":  func() { panic("left") },
		"Goexit": runtime.Goexit,
		"break":  nil,
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			eachCallAll(t, func(t *testing.T, all callAll) {
				s := &takes{}
				began := time.Now()
				done := make(chan struct{})
				go func() {
					defer close(done)
					defer func() { _ = recover() }()
					defer func() {
						if n := s.inside.Load(); n != 0 {
							t.Errorf("%d calls go on", n)
						}
					}()
					for res, err := range all(t.Context(), s, slices.Values([]int{1, 3600, 3600, 3600, 3600}), 3) {
						if res != 1 || err != nil {
							t.Errorf("got %d, %v, want 1", res, err)
						}
						if way == nil {
							break
						}
						way()
					}
				}()
				<-done
				if d := time.Since(began); d != time.Second {
					t.Errorf("took %v, want 1s", d)
				}
			})
		})
	}
}

// An end is how a loop over the results of CallAll ended.
type end struct {
	panicked any
	exited   bool
}

// loop runs the loop over all on a goroutine of its own.
func loop(t *testing.T, all iter.Seq2[int, error]) (results int, e end) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		e.exited = true
		defer func() {
			if e.panicked = recover(); e.panicked != nil {
				e.exited = false
			}
		}()
		for _, err := range all {
			if err != nil {
				t.Error(err)
			}
			results++
		}
		e.exited = false
	}()
	<-done
	return results, e
}

// What panics or exits on another goroutine does so in the loop, after the
// results before it.
func TestCallAllPanics(t *testing.T) {
	boom := func() { panic("boom") }
	inCall := func(f func()) (turret.Service[int, int], iter.Seq[int]) {
		return turret.ServiceFunc(func(_ context.Context, n int) (int, error) {
			if n == 2 {
				f()
			}
			return n, nil
		}), numbers(3)
	}
	inSource := func(f func()) (turret.Service[int, int], iter.Seq[int]) {
		return &takes{}, func(yield func(int) bool) {
			for range 2 {
				if !yield(0) {
					return
				}
			}
			f()
		}
	}
	inReady := func(f func()) (turret.Service[int, int], iter.Seq[int]) {
		return &readies{f: f}, numbers(3)
	}
	tests := map[string]struct {
		where func(func()) (turret.Service[int, int], iter.Seq[int])
		f     func()
		want  end
	}{
		"panic in a call":       {inCall, boom, end{"boom", false}},
		"Goexit in a call":      {inCall, runtime.Goexit, end{nil, true}},
		"panic in the source":   {inSource, boom, end{"boom", false}},
		"Goexit in the source":  {inSource, runtime.Goexit, end{nil, true}},
		"panic in readiness":    {inReady, boom, end{"boom", false}},
		"Goexit in readiness":   {inReady, runtime.Goexit, end{nil, true}},
		"a panic of the source": {inSource, func() { panic(errBoom) }, end{errBoom, false}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			eachCallAll(t, func(t *testing.T, all callAll) {
				s, reqs := tt.where(tt.f)
				results, got := loop(t, all(t.Context(), s, reqs, 1))
				if got != tt.want || results != 2 {
					t.Errorf("%d results and %+v, want 2 and %+v", results, got, tt.want)
				}
			})
		})
	}
}

// readies runs f when it is asked for the third time.
type readies struct {
	f     func()
	asked int
}

func (s *readies) Ready(context.Context) error {
	if s.asked++; s.asked == 3 {
		s.f()
	}
	return nil
}

func (s *readies) Call(context.Context, int) (int, error) { return 0, nil }

// The loop may be run again.
func TestCallAllTwice(t *testing.T) {
	eachCallAll(t, func(t *testing.T, all callAll) {
		loop := all(t.Context(), &takes{}, numbers(5), 2)
		for range 2 {
			count := 0
			for _, err := range loop {
				if err != nil {
					t.Error(err)
				}
				count++
			}
			if count != 5 {
				t.Errorf("%d results, want 5", count)
			}
		}
	})
}

// FuzzCallAll runs loops of all shapes: every request has one result, in order if
// that is promised, and never more calls than allowed.
func FuzzCallAll(f *testing.F) {
	f.Add(uint64(1), uint8(10), uint8(3), uint8(255), true)
	f.Add(uint64(2), uint8(100), uint8(1), uint8(5), false)
	f.Add(uint64(3), uint8(0), uint8(9), uint8(0), true)
	f.Fuzz(func(t *testing.T, seed uint64, requests, n, leaveAfter uint8, ordered bool) {
		most := max(int(n), 1)
		all := callAlls["CallAllUnordered"]
		if ordered {
			all = callAlls["CallAll"]
		}
		synctest.Test(t, func(t *testing.T) {
			s := &takes{}
			random := rand.New(rand.NewPCG(seed, 0))
			reqs := make([]int, requests)
			for i := range reqs {
				reqs[i] = random.IntN(10)
			}
			var got []int
			for res, err := range all(t.Context(), s, slices.Values(reqs), most) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, res)
				if len(got) > int(leaveAfter) {
					break
				}
			}
			want := reqs[:min(len(reqs), int(leaveAfter)+1)]
			if len(got) != len(want) || ordered && !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			if len(got) == len(reqs) && !ordered {
				slices.Sort(got)
				slices.Sort(reqs)
				if !slices.Equal(got, reqs) {
					t.Errorf("got %v, want %v in any order", got, reqs)
				}
			}
			if s.inside.Load() != 0 || s.most.Load() > int64(most) {
				t.Errorf("%d calls go on; there were %d at a time, want at most %d", s.inside.Load(), s.most.Load(), most)
			}
		})
	})
}

func BenchmarkCallAll(b *testing.B) {
	s := turret.ServiceFunc(func(_ context.Context, n int) (int, error) { return n, nil })
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for _, err := range turret.CallAll(b.Context(), s, numbers(b.N), n) {
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
