package oracle

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret/interceptors"
)

var seeds = flag.Int("seeds", defaultSeeds, "how many schedules TestOracle plays")

// TestOracle plays schedules that are made of a number each. A good part of them
// must be streams that were retried and then compared in full.
func TestOracle(t *testing.T) {
	var played, retried, compared atomic.Int64
	t.Cleanup(func() { // when all have been played
		n := played.Load() // fewer than seeds if -run chose some
		t.Logf("%d of %d streams were retried, %d of these compared in full", retried.Load(), n, compared.Load())
		if compared.Load() < n/4 && n >= defaultSeeds {
			t.Error("the schedules have become tame")
		}
	})
	for seed := range *seeds {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			played.Add(1)
			attempts, full := play(t, fromSeed(seed))
			if attempts > 1 {
				retried.Add(1)
			}
			if attempts > 1 && full {
				compared.Add(1)
			}
		})
	}
}

func fromSeed(seed int) dice {
	return rand.New(rand.NewPCG(uint64(seed), 0)).IntN
}

// FuzzOracle plays schedules that are made of bytes, each a number.
func FuzzOracle(f *testing.F) {
	f.Add([]byte{})
	for seed := range 20 {
		numbers, random := make([]byte, 60), fromSeed(seed)
		for i := range numbers {
			numbers[i] = byte(random(256))
		}
		f.Add(numbers)
	}
	f.Fuzz(func(t *testing.T, numbers []byte) { play(t, fromBytes(numbers)) })
}

func fromBytes(numbers []byte) dice {
	return func(n int) int {
		if len(numbers) == 0 {
			return 0
		}
		number := int(numbers[0])
		numbers = numbers[1:]
		return number % n
	}
}

// play plays a schedule through a Retry, and checks it against a bare
// connection.
func play(t *testing.T, d dice) (attempts int, full bool) {
	t.Helper()
	return decode(d).play(t)
}

func (s schedule) play(t *testing.T) (attempts int, full bool) {
	t.Log(&s)
	saw := perform(t, &s, 0, true)
	mistakes := s.check(saw, func(attempt int) *seen {
		quiet := s
		quiet.cancel = 0
		full = s.cancel == 0
		return perform(t, &quiet, attempt, false)
	})
	if len(mistakes) > 0 {
		t.Errorf("%d attempts\n%s", saw.opened, strings.Join(mistakes, "\n"))
	}
	return saw.opened, full
}

// TestBothWait plays a stream whose caller waits for the header while the server
// waits for a message: what the caller sees when it cancels is what it sees without
// a Retry, the empty trailer included.
func TestBothWait(t *testing.T) {
	s := schedule{
		kind: interceptors.KindBidiStream, attempts: 4, keep: 1 << 20,
		send:   []act{{verb: Header}, {Send, 10}, {verb: Close}},
		recv:   []act{{verb: Header}, {verb: Rest}, {verb: Trailer}},
		end:    codes.OK,
		faults: []ending{{after: 4, mute: true, code: codes.Unavailable}},
	}
	s.play(t)
}
