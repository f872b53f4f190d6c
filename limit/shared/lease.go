package shared

import (
	"math"
	"time"

	"github.com/turret-go/turret/limit"
)

// A ledger is the arithmetic of a [Limit]: which tokens are leased, when to ask
// for more, and whether the engine is away. It is a function of the instants,
// in nanoseconds, and of the random words that it is given.
//
// Invariants: at most one question is under way. The tokens at hand and those that
// are asked for are together no more than the calls of the last Horizon, or than
// the calls that wait for the answer and those that it has to pay for.
type ledger struct {
	cfg Config // with defaults

	demand  window
	granted mean

	// leases are the tokens at hand, those that expire first in front: what is
	// left of earlier leases, and the last one.
	leases [2]lease
	size   int // tokens in the last lease when it came

	trip        int64 // about the longest of the last round trips
	asking      bool
	askedAt     int64
	silentUntil int64 // no question is asked before it
	moreAt      int64 // when the engine has more, as far as it said

	debt int // calls let in while an answer was late, to be paid for out of it

	away    bool
	probeAt int64 // when to ask an engine that is away
}

type lease struct {
	tokens  int
	expires int64
}

func newLedger(c Config) ledger {
	return ledger{cfg: c, demand: newWindow(c.Horizon), granted: mean{tau: float64(10 * time.Second)}}
}

// tokens returns how many leased tokens can be used at now.
func (l *ledger) tokens(now int64) int {
	sum := 0
	for i := range l.leases {
		if l.leases[i].expires <= now {
			l.leases[i].tokens = 0
		}
		sum += l.leases[i].tokens
	}
	return sum
}

// take uses a leased token, if there is one: of those that expire first.
func (l *ledger) take(now int64) bool {
	if l.tokens(now) == 0 {
		return false
	}
	for i := range l.leases {
		if l.leases[i].tokens > 0 {
			l.leases[i].tokens--
			break
		}
	}
	return true
}

// put gives back a token of a call that was not sent. It expires with the last
// lease; if that has expired, the token is lost.
func (l *ledger) put() { l.leases[1].tokens++ }

// question returns how many tokens to ask the engine for at now, and notes that
// they are asked for; 0 means not to ask. waiting is how many calls wait for the
// answer.
func (l *ledger) question(now int64, waiting int) int {
	switch {
	case l.asking:
		return 0
	case l.away:
		if now < l.probeAt {
			return 0
		}
	case now < l.silentUntil:
		return 0
	case waiting == 0 && !l.early(now):
		return 0
	}
	n := l.most(max(l.demand.count(now), waiting+l.debt, 1)) - l.tokens(now)
	if n <= 0 {
		return 0
	}
	l.asking, l.askedAt = true, now
	return n
}

// most returns how many tokens may be held for calls.
func (l *ledger) most(calls int) int { return min(calls, l.cfg.MaxLease, l.cfg.Rate.Burst) }

// early reports whether to ask at now before the tokens are used up: what is left
// lasts for two round trips or less, or for an eighth of the Horizon where that is
// longer, and is no more than half of what may be held. A process that may hold one
// token only does not ask early: the token would expire unused.
func (l *ledger) early(now int64) bool {
	demand := l.demand.count(now)
	most := l.most(demand)
	if most < 2 {
		return false
	}
	lead := max(2*l.trip, int64(l.cfg.Horizon)/8)
	last := math.Round(float64(demand) * float64(lead) / float64(l.cfg.Horizon))
	return float64(l.tokens(now)) <= min(last, float64(most/2))
}

// answer notes what the engine granted of asked tokens. random is a random word.
func (l *ledger) answer(now int64, asked, granted int, retryAfter time.Duration, random uint64) {
	granted = min(max(granted, 0), asked)
	if l.away {
		l.granted.skip(now)
	}
	l.asking, l.away = false, false
	l.trip = min(max(now-l.askedAt, l.trip-l.trip/8), int64(l.cfg.Horizon))
	l.granted.add(now, granted)
	if granted < asked {
		l.silentUntil = now + spread(l.cfg.Horizon, random)
		l.moreAt = max(l.silentUntil, now+int64(min(max(retryAfter, 0), time.Hour)))
	}
	if granted == 0 {
		return
	}
	paid := min(l.debt, granted)
	l.debt -= paid
	if held := l.tokens(now); l.leases[0].tokens > 0 {
		l.leases[0].tokens = held // all expire with the oldest of them
	} else {
		l.leases[0] = l.leases[1]
	}
	l.leases[1] = lease{granted - paid, now + int64(l.cfg.Expire)}
	l.size = granted
}

// failed notes that the engine could not be asked.
func (l *ledger) failed(now int64, random uint64) {
	l.asking, l.away = false, true
	l.debt = 0
	l.probeAt = now + spread(l.cfg.Probe, random)
}

// overdue reports whether the question that is under way should have been
// answered by now. The engine is then taken to be away.
func (l *ledger) overdue(now int64) bool {
	return l.asking && !l.away && now-l.askedAt > int64(l.cfg.Timeout)
}

// silent reports whether the engine has said that there are no tokens, so that
// calls are refused.
func (l *ledger) silent(now int64) bool { return !l.away && !l.asking && now < l.silentUntil }

// retryAfter returns when a refused call should come back.
func (l *ledger) retryAfter(now int64) time.Duration {
	if l.away {
		return time.Duration(max(l.probeAt-now, 0))
	}
	return time.Duration(max(l.moreAt-now, 0))
}

// localRate returns the rate of the local limit while the engine is away.
func (l *ledger) localRate() limit.Rate {
	c := l.cfg
	if c.Local != (limit.Rate{}) {
		return c.Local
	}
	perSecond := l.granted.rate() * float64(time.Second)
	switch {
	case c.Clients > 0:
		perSecond = perNanosecond(c.Rate) * float64(time.Second) / float64(c.Clients)
	case perSecond == 0:
		return c.Rate
	}
	r := limit.Rate{N: whole(perSecond * 100), Per: 100 * time.Second}
	r.Burst = whole(perSecond * c.Horizon.Seconds())
	return r
}

// whole returns x as a number of tokens: at least 1.
func whole(x float64) int { return int(min(max(math.Round(x), 1), math.MaxInt32)) }

// spread returns between half of d and one and a half of it, as random says.
func spread(d time.Duration, random uint64) int64 {
	return int64(float64(d) * (0.5 + float64(random>>11)/(1<<53)))
}

// A window counts the calls of the last width nanoseconds in slots. The calls of
// the oldest slot that lies within the width only in part are left out, so that no
// count has a call that is older than the width.
type window struct {
	slot  int64 // the width of a slot
	last  int64 // the number of the present slot
	slots [windowSlots]int32
	sum   int // of the slots
}

const windowSlots = 16

func newWindow(width time.Duration) window { return window{slot: int64(width) / windowSlots} }

func (w *window) add(now int64) {
	w.turn(now)
	w.slots[w.last%windowSlots]++
	w.sum++
}

// count returns how many calls came in the last fifteen to sixteen sixteenths of
// the width.
func (w *window) count(now int64) int {
	w.turn(now)
	return w.sum
}

// turn empties the slots that are no longer within the width.
func (w *window) turn(now int64) {
	if now < (w.last+1)*w.slot {
		return
	}
	present := now / w.slot
	for i := max(w.last+1, present-windowSlots+1); i <= present; i++ {
		w.sum -= int(w.slots[i%windowSlots])
		w.slots[i%windowSlots] = 0
	}
	w.last = present
}

// A mean is an exponentially weighted mean rate. It is exact for a constant
// rate from the beginning on: the weight that times before the beginning would
// have is taken out.
type mean struct {
	tau    float64 // nanoseconds
	sum    float64 // of what was added, each weighted by its age
	begin  int64
	last   int64
	exists bool
}

func (m *mean) add(now int64, n int) {
	if !m.exists {
		m.begin, m.last, m.exists = now, now, true
	}
	m.sum = m.sum*m.decay(now) + float64(n)
	m.last = now
}

// skip takes the time since the last add out of the mean.
func (m *mean) skip(now int64) {
	if m.exists {
		m.begin += now - m.last
		m.last = now
	}
}

// rate returns the mean per nanosecond up to the last add: 0 if less than a
// hundredth of tau has passed by then. What passes after it is not counted.
func (m *mean) rate() float64 {
	age := float64(m.last - m.begin)
	if !m.exists || age < m.tau/100 {
		return 0
	}
	return m.sum / (m.tau * (1 - math.Exp(-age/m.tau)))
}

func (m *mean) decay(now int64) float64 { return math.Exp(-float64(now-m.last) / m.tau) }
