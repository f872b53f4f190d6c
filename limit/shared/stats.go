package shared

import (
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/limit"
)

// counts is what a Limit has done since it was made.
type counts struct {
	entered, local, open     uint64
	refused, away, cancelled uint64
	returned                 uint64
	asked, granted, failed   uint64
	awaySince                int64
	err                      error
}

// Stats is what a [Limit] was doing at one instant, and has done since it was
// made.
type Stats struct {
	Key    string     // the key
	Rate   limit.Rate // the rate of all processes together
	Tokens int        // leased tokens that are not used

	Waiting  int    // calls that wait for an answer of the engine
	Entered  uint64 // calls let in with a leased token
	Local    uint64 // calls let in by the local limit, while the engine was away or late
	Open     uint64 // calls let in by AwayOpen
	Returned uint64 // those of these three that were not sent

	RateLimited uint64 // calls refused because no token was left, reason RATE_LIMITED
	LimitAway   uint64 // calls refused by AwayClosed, reason LIMIT_AWAY
	Cancelled   uint64 // calls whose context ended while they waited

	Asked   uint64 // questions to the engine
	Granted uint64 // tokens that it granted
	Failed  uint64 // questions that it did not answer

	Away    bool          // whether the engine is away
	AwayFor time.Duration // for how long
	Err     error         // why the last question was not answered; nil if each was
}

// Stats returns a snapshot.
func (l *Limit) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	c := l.count
	s := Stats{
		Key: l.cfg.Key, Rate: l.cfg.Rate, Tokens: l.ledger.tokens(now),
		Waiting: len(l.line), Entered: c.entered, Local: c.local, Open: c.open, Returned: c.returned,
		RateLimited: c.refused, LimitAway: c.away, Cancelled: c.cancelled,
		Asked: c.asked, Granted: c.granted, Failed: c.failed,
		Away: l.ledger.away, Err: c.err,
	}
	if s.Away {
		s.AwayFor = time.Duration(now - c.awaySince)
	}
	return s
}

// String returns the key, the rate and the Stats in one line.
func (l *Limit) String() string {
	s := l.Stats()
	text := fmt.Sprintf("shared limit %q %v: %d tokens, %d entered, %d refused, %d questions",
		s.Key, s.Rate, s.Tokens, s.Entered+s.Local+s.Open, s.RateLimited+s.LimitAway, s.Asked)
	if s.Away {
		text += fmt.Sprintf(", engine away for %v (%v): %v", s.AwayFor, l.cfg.Away, s.Err)
	}
	return text
}

// Describe tells the settings and the Stats. The key is left out: it may be the
// name of a tenant.
func (l *Limit) Describe(d *turret.Description) {
	s := l.Stats()
	d.Is("shared_limit", "shared limit "+s.Rate.String())
	d.Setting("rate", "", s.Rate)
	d.Setting("away", "", l.cfg.Away)
	d.Gauge("tokens", "{token}", float64(s.Tokens))
	d.Gauge("waiting", "{call}", float64(s.Waiting))
	d.Count("entered", "{call}", "", s.Entered+s.Local+s.Open)
	d.Count("stand_in", "{call}", "local", s.Local)
	d.Count("stand_in", "{call}", "open", s.Open)
	d.Count("refused", "{call}", turret.ReasonRateLimited, s.RateLimited)
	d.Count("refused", "{call}", turret.ReasonLimitAway, s.LimitAway)
	d.Count("cancelled", "{call}", "", s.Cancelled)
	d.Count("questions", "{question}", "", s.Asked)
	d.Count("questions_failed", "{question}", "", s.Failed)
	d.Count("granted", "{token}", "", s.Granted)
	engine := "here"
	if s.Away {
		engine = "away"
	}
	d.State("engine", engine)
}
