package shared_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

// A ledgerOfKeys is an engine that grants each key its burst, once.
type ledgerOfKeys struct {
	mu   sync.Mutex
	left map[string]int
}

func (e *ledgerOfKeys) Take(_ context.Context, key string, n int, r limit.Rate) (int, time.Duration, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.left[key]; !ok {
		e.left[key] = r.Burst
	}
	got := min(n, e.left[key])
	e.left[key] -= got
	return got, time.Minute, nil
}

// TestPerKeyIsBounded has 12,000 tenants inside at once: 10,000 of them have a limit
// of their own, and the others share one.
func TestPerKeyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &ledgerOfKeys{left: map[string]int{}}
		keyed := limit.NewKeyed(limit.KeyedConfig{New: shared.PerKey(e, shared.Config{
			Key: "tenants", Rate: limit.Rate{N: 10, Per: time.Second, Burst: 10},
		})})
		var inside []turret.Ticket
		refused := 0
		for i := range 12_000 {
			ticket, err := keyed.Enter(t.Context(), fmt.Sprint(i))
			if err != nil {
				refused++
				continue
			}
			inside = append(inside, ticket)
		}
		if len(inside) != 10_000+10 || refused != 2000-10 {
			t.Errorf("%d entered and %d were refused, want one of each of 10,000 keys and the burst of one limit", len(inside), refused)
		}
		if s := keyed.Stats(); s.Keys != 10_000 || s.Shared != 2000 {
			t.Errorf("%+v, want 10,000 keys", s)
		}
		for _, ticket := range inside {
			keyed.Leave(ticket, turret.Success)
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.left) != 10_001 {
			t.Errorf("the engine knows %d limits, want 10,001", len(e.left))
		}
		for key := range e.left {
			if !strings.HasPrefix(key, "tenants/") {
				t.Errorf("the engine knows the limit %q", key)
			}
		}
	})
}

// TestPerKeyIsChecked gives PerKey what New would refuse at the first call.
func TestPerKeyIsChecked(t *testing.T) {
	for name, f := range map[string]func(){
		"no engine": func() { shared.PerKey(nil, shared.Config{Key: "k", Rate: limit.PerSecond(1)}) },
		"no key":    func() { shared.PerKey(&ledgerOfKeys{}, shared.Config{Rate: limit.PerSecond(1)}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
