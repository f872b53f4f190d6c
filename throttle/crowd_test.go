package throttle

import (
	"math/rand/v2"
	"testing"
	"time"
)

// A crowd is clients of one server that does 500 calls a second and refuses the rest.
// It plays a surge of fifteen seconds, at so many times the load, and then seven
// tenths of the load for ten seconds.
type crowd struct {
	clients []counts
	load    float64

	sent, accepted int // from the second second of the surge to its end
	least          int // accepted of the calls of the client with the fewest
	released       time.Duration
}

const (
	crowdCapacity = 500.0
	crowdSurge    = 15 * time.Second
	crowdRest     = 10 * time.Second
)

// play plays the surge. released is when, counted from the end of the surge, the last
// 100 ms ended in which more than one call was turned away, and more than 2 % were.
func (c *crowd) play(seed uint64) {
	random := rand.New(rand.NewPCG(seed, 5))
	for i := range c.clients {
		c.clients[i] = counts{width: int64(100 * time.Millisecond)}
	}
	accepted := make([]int, len(c.clients))
	var room float64
	var asked, turned, bin int
	load, last := c.load, time.Duration(0)
	for now := time.Duration(0); now < crowdSurge+crowdRest; {
		room = min(room+crowdCapacity*(now-last).Seconds(), 20)
		last = now
		i := random.IntN(len(c.clients))
		passes := c.clients[i].ask(int64(now), defaultK, random.Uint64)
		took := passes && room >= 1
		counted := now >= time.Second && now < crowdSurge
		switch {
		case took:
			room--
			c.clients[i].answer(int64(now))
		case passes:
			c.clients[i].refuse(int64(now))
		}
		switch {
		case counted && passes:
			c.sent++
			if took {
				c.accepted++
				accepted[i]++
			}
		case now >= crowdSurge:
			if at := int((now - crowdSurge) / (100 * time.Millisecond)); at > bin {
				asked, turned, bin = 0, 0, at
			}
			asked++
			if !passes {
				turned++
			}
			if turned > 1 && turned > asked/50 {
				c.released = time.Duration(bin+1) * 100 * time.Millisecond
			}
		}
		if now >= crowdSurge {
			load = 0.7
		}
		now += max(1, time.Duration(random.ExpFloat64()/(load*crowdCapacity)*float64(time.Second)))
	}
	c.least = accepted[0]
	for _, n := range accepted {
		c.least = min(c.least, n)
	}
}

// A client of which the server took little, by chance, must not be kept out for long
// after the surge, and must not be starved in it. Without what counts double, and with nothing that counts as
// accepted at least, the last is released after up to eight seconds.
func TestClientsOfLittleLuckComeBack(t *testing.T) {
	for _, load := range []float64{3, 10, 40} {
		for seed := range uint64(8) {
			c := crowd{clients: make([]counts, 10), load: load}
			c.play(seed)
			fair := c.accepted / len(c.clients)
			t.Logf("load %v, seed %d: %.2f times what is accepted, %.2f of its share, released after %v",
				load, seed, float64(c.sent)/float64(c.accepted), float64(c.least)/float64(fair), c.released)
			if c.sent > 22*c.accepted/10 || c.least < fair/10 || c.released > 3*time.Second {
				t.Errorf("load %v, seed %d: %d sent, %d accepted, %d of one client's calls; calls were turned away for %v after the surge",
					load, seed, c.sent, c.accepted, c.least, c.released)
			}
		}
	}
}

// Many small clients, each of which has a part of a call a second, cannot know much.
// They must not send everything, and must not turn calls away for long.
func TestManySmallClients(t *testing.T) {
	c := crowd{clients: make([]counts, 1000), load: 10}
	c.play(1)
	if ratio := float64(c.sent) / float64(c.accepted); ratio > 4.5 || c.released > 3*time.Second {
		t.Errorf("%.2f times what is accepted, released after %v", ratio, c.released)
	}
}
