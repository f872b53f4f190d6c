package limit

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// TokenBucket is a [turret.Gate] that bounds how many calls start in a time. It
// holds tokens, at most Burst of them, and starts full; a call takes one when it
// enters; they come back at N in Per, evenly spread. A call that finds no
// token waits in line or is refused, according to its [Queue].
//
// So in any time t at most Burst + t*N/Per calls start. A token is spent
// whatever came of the call, with one exception: a call that was not sent
// ([turret.Unused]) gives its token back, to the head of the line if there is
// one.
//
// RetryAfter of a refusal is when there will be a token for the refused call:
// behind the line, and behind the tokens promised to the calls refused before.
// At most the tokens of a second, or the next 16, are promised so; then the first
// of them is promised again.
//
// The count is exact: integers, no drift, no overflow at any rate. Its methods
// may be called concurrently. Use [NewTokenBucket].
type TokenBucket struct {
	base time.Time // what the bucket's time counts from
	line line      // its mutex guards the rest

	bucket   bucket
	entered  uint64
	returned uint64
	timer    *time.Timer // wakes waiting calls when the next token is due
	armed    bool

	// spare is whether there were tokens and no call waited when the mutex was
	// unlocked last. Time makes no token go away, so it is still true then.
	spare atomic.Bool
}

// NewTokenBucket returns a full bucket. It panics if r or q is invalid.
func NewTokenBucket(r Rate, q Queue) *TokenBucket {
	misuse.Check("limit: NewTokenBucket", turret.FieldOf("limit", "Rate", r.Validate()))
	misuse.Check("limit: NewTokenBucket", turret.FieldOf("limit", "Queue", q.Validate()))
	b := &TokenBucket{base: time.Now(), bucket: newBucket(r)}
	b.line.room = (*tokens)(b)
	b.line.setQueue(q)
	return b
}

// Ready waits until there is a token and the line is empty. Where there are tokens
// left it takes no lock and reads no clock.
func (b *TokenBucket) Ready(ctx context.Context) error {
	if b.spare.Load() {
		return nil
	}
	return b.line.ready(ctx)
}

// Enter takes a token, and waits for it in line as the [Queue] allows. Its
// refusals match [ErrRate], [ErrQueueFull] or [ErrQueueTimeout].
func (b *TokenBucket) Enter(ctx context.Context) (turret.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return turret.Ticket{}, turret.NotReady(err)
	}
	return turret.Ticket{}, b.line.enter(ctx)
}

// TryEnter takes a token that is there now. Its refusal matches [ErrRate].
func (b *TokenBucket) TryEnter(context.Context) (turret.Ticket, error) {
	return turret.Ticket{}, b.line.tryEnter()
}

// Leave gives the token back if o is [turret.Unused], and does nothing
// otherwise. A token that no longer fits, because the bucket has filled up since,
// is lost.
func (b *TokenBucket) Leave(_ turret.Ticket, o turret.Outcome) {
	if o != turret.Unused {
		return
	}
	b.line.lock()
	b.returned++
	b.bucket.put()
	b.line.settle()
	b.line.unlock()
}

// SetRate changes the rate from now on. The tokens that are there stay, up to
// the new burst, and calls that wait do so at the new rate. It panics if r is
// invalid.
func (b *TokenBucket) SetRate(r Rate) {
	misuse.Check("limit: TokenBucket.SetRate", turret.FieldOf("limit", "Rate", r.Validate()))
	b.line.lock()
	b.bucket.setRate(r)
	b.stop() // unlock arms it anew
	b.line.unlock()
}

// SetQueue changes how calls may wait in line. Calls that wait already keep their
// place and the Timeout that they came with, also where there are now more of
// them than q allows. It panics if q is invalid.
func (b *TokenBucket) SetQueue(q Queue) {
	misuse.Check("limit: TokenBucket.SetQueue", turret.FieldOf("limit", "Queue", q.Validate()))
	b.line.setQueue(q)
}

// TokenBucketStats is what a [TokenBucket] was doing at one instant, and has
// done since it was made.
type TokenBucketStats struct {
	Rate     Rate   // the rate
	Tokens   int    // tokens that are there
	Waiting  int    // calls in line
	Entered  uint64 // calls that were let in
	Returned uint64 // those of them that were not sent

	RateLimited  uint64 // calls refused because no token was left, reason RATE_LIMITED
	QueueFull    uint64 // calls refused because the line was full, reason QUEUE_FULL
	QueueTimeout uint64 // calls refused after the longest time in line, reason QUEUE_TIMEOUT
	Cancelled    uint64 // calls whose context ended while they were in line

	// Waited is how long calls have been in line, added up, those that were
	// refused or gave up too. A call that is still in line does not count yet.
	Waited time.Duration
}

// Stats returns a snapshot.
func (b *TokenBucket) Stats() TokenBucketStats {
	r := &b.line.refusals
	s := TokenBucketStats{
		RateLimited:  r.noRoom.Load(),
		QueueFull:    r.lineFull.Load(),
		QueueTimeout: r.tooLong.Load(),
		Cancelled:    r.gaveUp.Load(),
		Waited:       time.Duration(b.line.waited.Load()),
	}
	b.line.lock()
	defer b.line.unlock()
	s.Rate = b.bucket.rate
	s.Tokens = int(b.bucket.tokens)
	s.Waiting = b.line.waiting.n
	s.Entered, s.Returned = b.entered, b.returned
	return s
}

// String returns the rate and its Stats in one line.
func (b *TokenBucket) String() string {
	s := b.Stats()
	return fmt.Sprintf("rate limit %v: %d tokens, %d waiting, %d entered, %d refused",
		s.Rate, s.Tokens, s.Waiting, s.Entered, s.RateLimited+s.QueueFull+s.QueueTimeout)
}

// stop stops the timer.
func (b *TokenBucket) stop() {
	if b.armed {
		b.timer.Stop()
		b.armed = false
	}
}

// wake runs when a token is due that a call waits for.
func (b *TokenBucket) wake() {
	b.line.lock() // gives the token away
	b.armed = false
	b.line.unlock() // arms the timer for the next one
}

// tokens is a [TokenBucket] as the [room] behind its line.
type tokens TokenBucket

func (t *tokens) clock() int64 { return int64(time.Since(t.base)) }

func (t *tokens) begin(now int64) { t.bucket.refill(now, t.line.waiting.n > 0) }

// end keeps the timer armed exactly while a call waits. There is no token then, and
// the time of the next one does not depend on the calls that wait.
func (t *tokens) end(wanted bool) {
	b := (*TokenBucket)(t)
	if spare := !wanted && t.free(); spare != t.spare.Load() {
		t.spare.Store(spare)
	}
	switch {
	case wanted == b.armed:
	case !wanted:
		b.stop()
	case b.timer == nil:
		b.timer = time.AfterFunc(b.bucket.after(1), b.wake)
		b.armed = true
	default:
		b.timer.Reset(b.bucket.after(1))
		b.armed = true
	}
}

func (t *tokens) free() bool { return t.bucket.tokens > 0 }

func (t *tokens) take() bool {
	if !t.bucket.take() {
		return false
	}
	t.entered++
	return true
}

func (t *tokens) put() {
	t.bucket.put()
	t.entered--
}

func (t *tokens) refusal(why reason) *turret.Refusal {
	refusal := rateLimited
	switch why {
	case lineFull:
		refusal = queueFull
	case tooLong:
		refusal = queueTimeout
	case noRoom:
	}
	refusal.RetryAfter = t.bucket.promise(t.line.waiting.n)
	return &refusal
}
