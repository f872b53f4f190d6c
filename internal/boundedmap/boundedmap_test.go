package boundedmap

import (
	"fmt"
	"sync"
	"testing"
)

// spell makes a value that shows which key it was made for, and counts.
func spell(made *int) func(int) string {
	return func(k int) string {
		*made++
		return fmt.Sprint(k)
	}
}

func TestMapMakesOnce(t *testing.T) {
	var m Map[int, string]
	made := 0
	for range 3 {
		for k := range 10 {
			if got := m.Get(k, spell(&made)); got != fmt.Sprint(k) {
				t.Fatalf("Get(%d) = %q", k, got)
			}
		}
	}
	if made != 10 {
		t.Errorf("made %d values for 10 keys", made)
	}
}

func TestMapIsBounded(t *testing.T) {
	for _, bound := range []int{DefaultMax, 5} {
		var m Map[int, string]
		if bound != DefaultMax {
			m.Max = bound
		}
		made := 0
		for range 2 {
			for k := range 2 * bound {
				if got := m.Get(k, spell(&made)); got != fmt.Sprint(k) {
					t.Fatalf("Get(%d) = %q", k, got)
				}
			}
		}
		if n := m.Len(); n != bound {
			t.Errorf("holds %d values, want %d", n, bound)
		}
		if want := 2*bound + bound; made != want {
			t.Errorf("made %d values, want %d: the first half once, the rest each time", made, want)
		}
	}
}

func TestMapConcurrently(t *testing.T) {
	var m Map[int, string]
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			made := 0
			for i := range 1000 {
				k := i % (DefaultMax / 2)
				if got := m.Get(k, spell(&made)); got != fmt.Sprint(k) {
					t.Errorf("Get(%d) = %q", k, got)
				}
			}
		})
	}
	wg.Wait()
}

func TestMapDoesNotAllocate(t *testing.T) {
	var m Map[[2]string, string]
	k := [2]string{"a", "b"}
	join := func(k [2]string) string { return k[0] + k[1] }
	m.Get(k, join)
	if n := testing.AllocsPerRun(100, func() { m.Get(k, join) }); n != 0 {
		t.Errorf("%v allocations, want none for a key that is known", n)
	}
}

// Keys that come when the map is full wait for no lock.
func TestFullMapTakesNoLock(t *testing.T) {
	m := Map[int, string]{Max: 1}
	made := 0
	m.Get(1, spell(&made))
	m.mu.Lock()
	defer m.mu.Unlock()
	if got := m.Get(2, spell(&made)); got != "2" || m.Len() != 1 {
		t.Errorf("got %q, and the map holds %d values", got, m.Len())
	}
}

// A key that comes while another one fills the map does not overfill it.
func TestMapFilledMeanwhile(t *testing.T) {
	m := Map[int, string]{Max: 1}
	made := 0
	m.Get(2, func(k int) string {
		m.Get(1, spell(&made))
		return fmt.Sprint(k)
	})
	if m.Len() != 1 {
		t.Errorf("the map holds %d values, want 1", m.Len())
	}
}
