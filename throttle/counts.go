package throttle

const (
	buckets     = 10 // of a window
	mostDoubled = 10 // times that what was accepted counts double

	leastAccepted = 0.02 // part of what is asked for that counts as accepted at least
)

// counts are the calls of a window, in buckets of a tenth of it on a grid that
// does not move. They are a pure function of their inputs and their times. Their
// owner serializes access.
type counts struct {
	width   int64 // of a bucket, in nanoseconds
	current int64 // number of the bucket that is being filled
	buckets [buckets]tally
	sum     tally // of buckets

	// doubled is how many buckets in a row, of those in which an answer came, have
	// seen no refusal. answered and refused say what the current one has seen.
	doubled           int
	answered, refused bool

	passed, throttled uint64
}

// A tally is how many calls were asked for and sent, and how many refusals of
// the server came.
type tally struct{ asked, sent, refused int }

// ask counts a call at now and reports whether it may be sent. random returns a
// random number and is called only where chance decides.
func (c *counts) ask(now int64, k float64, random func() uint64) bool {
	c.advance(now)
	p := c.probability(k)
	passes := p == 0 || float64(random()>>11)/(1<<53) >= p
	c.add(tally{asked: 1})
	if !passes {
		c.throttled++
		return false
	}
	c.add(tally{sent: 1})
	c.passed++
	return true
}

// probability is that with which the next call is turned away. Calls that have
// not ended count as accepted: a server that takes its time refuses nothing.
func (c *counts) probability(k float64) float64 {
	asked := float64(c.sum.asked)
	accepted := max(float64(c.sum.sent-c.sum.refused), leastAccepted*asked)
	return max(0, (asked-k*accepted*float64(int(1)<<c.doubled))/(asked+1))
}

// limits reports whether the server has refused calls of the window, or some of it
// were not sent.
func (c *counts) limits() bool { return c.sum.refused > 0 || c.sum.sent < c.sum.asked }

// answer notes that the server has answered a call at now.
func (c *counts) answer(now int64) {
	c.advance(now)
	c.answered = true
}

// refuse counts a refusal of the server that came at now.
func (c *counts) refuse(now int64) {
	c.advance(now)
	c.add(tally{refused: 1})
	c.doubled, c.refused = 0, true
}

// unsent takes back a call that was let through at start and was not sent.
func (c *counts) unsent(now, start int64) {
	c.advance(now)
	c.passed--
	if k := start / c.width; k > c.current-buckets && k <= c.current {
		b := &c.buckets[k%buckets]
		b.asked--
		b.sent--
		c.sum.asked--
		c.sum.sent--
	}
}

func (c *counts) add(t tally) {
	for _, to := range []*tally{&c.buckets[c.current%buckets], &c.sum} {
		to.asked += t.asked
		to.sent += t.sent
		to.refused += t.refused
	}
}

// advance begins the bucket of now, and drops those that are no longer in the window.
func (c *counts) advance(now int64) {
	k := max(now, 0) / c.width
	if k <= c.current {
		return
	}
	if c.answered && !c.refused {
		c.doubled = min(c.doubled+1, mostDoubled)
	}
	c.answered, c.refused = false, false
	for j := max(c.current+1, k-buckets+1); j <= k; j++ {
		old := &c.buckets[j%buckets]
		c.sum.asked -= old.asked
		c.sum.sent -= old.sent
		c.sum.refused -= old.refused
		*old = tally{}
	}
	c.current = k
}
