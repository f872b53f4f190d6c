package balance

import (
	"math"

	"github.com/turret-go/turret/internal/attempts"
)

// A snapshot is the endpoints that may be chosen at one moment. It is immutable.
// Its owner finds what belongs to an endpoint by the endpoint's index.
type snapshot struct {
	// The endpoints in the order of the owner's list, which is the same for the same
	// endpoints: see [Config].Seed.
	choices []choice
	weights *alias // nil: all are equal
	config  *settings
}

// A choice is an endpoint that may be chosen.
type choice struct {
	*endpoint

	tracker tracker // the endpoint's: to read both need not be one after the other
	index   int     // in the snapshot
}

// newChoice returns e as the choice with this index.
func newChoice(e *endpoint, index int) choice { return choice{e, e.tracker(), index} }

const (
	// draws is how often some endpoints are drawn before a search begins. With
	// half of the endpoints banned, one call in 256 gets that far.
	draws = 4
	// searched bounds the search, so that a pick costs the same with 10 and with
	// 10,000 endpoints.
	searched = 64
)

// choose returns the endpoint for a call, which it has entered; v has the passes.
// The caller must end the call with finish, or give it up with cancel. The error is a
// refusal with a status. There must be a choice at least. It takes no lock and does not
// allocate.
func (s *snapshot) choose(v *visit, now int64, record *attempts.Record) (*choice, error) {
	if len(s.choices) > 1 {
		if best, fit := s.contest(now, record); fit <= inUse {
			if best.enter(v, now, asking) {
				return best, nil
			}
		}
	}
	return s.search(v, now, record)
}

// contest draws until two endpoints that are fit have been compared: the best of
// one is no choice, and of three endpoints of which one is banned every third
// call would go to the slower one of the others. Where all were drawn at once
// there is no other one to draw.
// Invariant: the result is the best of all that were drawn, and rival is the standing
// of the second fittest of them.
func (s *snapshot) contest(now int64, record *attempts.Record) (*choice, standing) {
	best, fit, rival := s.best(now, record)
	if len(s.choices) <= s.config.Choices {
		return best, fit
	}
	for k := 1; k < draws && fit != onTrial && rival > inUse; k++ {
		c, fitC, rivalC := s.best(now, record)
		if c == best {
			rival = rivalC
			if s.weights != nil {
				rival = min(rival, fit) // it is its own rival
			}
			continue
		}
		rival = min(max(fit, fitC), rivalC)
		best, fit = s.better(best, fit, c, fitC, now)
	}
	return best, fit
}

// best returns the best of some endpoints that are drawn at random, how fit it
// is, and how fit the fittest of the others is.
func (s *snapshot) best(now int64, record *attempts.Record) (best *choice, fit, rival standing) {
	// The usual case, without a loop: one random word draws both.
	if s.config.Choices == 2 && s.weights == nil {
		i, j := pair(s.config.random(), len(s.choices))
		a, b := &s.choices[i], &s.choices[j]
		fitA, fitB := a.standing(now, record), b.standing(now, record)
		best, fit = s.better(a, fitA, b, fitB, now)
		return best, fit, max(fitA, fitB)
	}
	var indexes [maxChoices]int
	drawn := indexes[:min(s.config.Choices, len(s.choices))]
	s.draw(drawn)
	best = &s.choices[drawn[0]]
	fit, rival = best.standing(now, record), full
	for _, i := range drawn[1:] {
		c := &s.choices[i]
		fitC := c.standing(now, record)
		rival = min(rival, max(fit, fitC))
		best, fit = s.better(best, fit, c, fitC, now)
	}
	return best, fit, rival
}

// draw fills into with the indexes of different endpoints. With weights each draw
// is independent and in proportion to the weight, and an endpoint may be its own
// rival: of weights w and 1-w, contests that are even are then won in the shares
// w x w + w x (1-w) = w. Drawing again until they differ would give the light
// endpoint more.
func (s *snapshot) draw(into []int) {
	if s.weights == nil {
		distinct(s.config.random, len(s.choices), into)
		return
	}
	for k := range into {
		into[k] = s.weights.draw(s.config.random())
	}
}

// better returns the better of two endpoints: the fitter one, else the one with
// less load. The order in which a and b were drawn is random, so ties are
// fair.
func (s *snapshot) better(a *choice, fitA standing, b *choice, fitB standing, now int64) (*choice, standing) {
	switch {
	case fitA < fitB:
		return a, fitA
	case fitB < fitA:
		return b, fitB
	case fitA == onTrial || s.load(a, now) <= s.load(b, now):
		return a, fitA
	default:
		return b, fitB
	}
}

// load is what endpoints are compared by. With weights, an endpoint stands for as
// many equal ones as its weight says, in multiples of the lightest, and what
// counts is the load of one of those, drawn at random: an endpoint of weight 9
// with one call in flight is one time in nine as loaded as an endpoint of weight
// 1 with one call. Then contests between endpoints that are loaded in proportion
// to their weights are even, with one call in flight and with a thousand.
func (s *snapshot) load(c *choice, now int64) float64 {
	l := c.tracker.Load(now)
	if reported := c.reported.Load(); reported != 0 {
		l = c.alarmed(l, reported)
	}
	l /= c.warmth(now)
	if s.weights == nil {
		return l
	}
	n := float64(c.tracker.InFlight())
	if n == 0 {
		return s.idleLoad(c, l)
	}
	random := float64(s.config.random()>>11) / (1 << 53)
	of := math.Floor(n/s.weights.multiples[c.index] + random)
	if s.config.Load == LoadPending {
		return of
	}
	return l * (1 + of) / (1 + n)
}

// idleLoad is load for an endpoint without a call in flight. An endpoint of
// little weight is measured seldom, so that its latency is uncertain and has
// decayed when it is compared. Only an endpoint that takes more than twice the
// typical latency is worse than another one there; else chance, and not the
// weights, would decide.
func (s *snapshot) idleLoad(c *choice, l float64) float64 {
	typical := float64(c.pool.fleet.Typical())
	if s.config.Load != LoadPending && l < 2*typical {
		return typical
	}
	return l
}

// search takes the fittest endpoint of those that it looks at. It is for when the
// draws found none that is fit.
// It is the only way to an endpoint that is banned or full, and the place where
// [Config].OnBanned and OnFull are decided: a banned endpoint first, then a full one.
func (s *snapshot) search(v *visit, now int64, record *attempts.Record) (*choice, error) {
	var best *choice
	var fit standing
	for range draws {
		if best, fit = s.fittest(now, record); fit >= banned {
			break
		}
		if best.enter(v, now, asking) {
			return best, nil
		}
		fit = banned // this moment, or another call was the probe: others may be fit
	}
	if fit == banned {
		if s.config.OnBanned == Refuse {
			return nil, errBanned
		}
		if best.enter(v, now, panicking) {
			best.pool.panics.Add(1)
			best.pool.onPanic()
			return best, nil
		}
	}
	if s.config.OnFull == Refuse {
		return nil, errFull
	}
	best.enter(v, now, crowding)
	return best, nil
}

// fittest looks at endpoint after endpoint, from a random one on.
// It stops early at an endpoint that is on trial, which nothing is fitter than. The
// first one is random, so that searches do not meet at the same endpoint.
func (s *snapshot) fittest(now int64, record *attempts.Record) (*choice, standing) {
	n := len(s.choices)
	first := 0
	if n > 1 {
		first = below(s.config.random(), n)
	}
	best := &s.choices[first]
	fit := best.standing(now, record)
	for k := 1; k < min(n, searched) && fit > onTrial; k++ {
		c := &s.choices[(first+k)%n]
		best, fit = s.better(best, fit, c, c.standing(now, record), now)
	}
	return best, fit
}
