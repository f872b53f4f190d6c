package redis_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/engine/redis"
	"github.com/turret-go/turret/internal/redisserver"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

// slow is a rate at which no token comes while a test runs.
var slow = limit.Rate{N: 1, Per: 1000 * time.Hour, Burst: 10}

// start starts a server whose socket is in dir.
func start(t *testing.T, dir string) *redisserver.Server {
	t.Helper()
	s, err := redisserver.Start(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	return s
}

// client returns a client that waits as long as the machine needs.
func client(t *testing.T, s *redisserver.Server) *goredis.Client {
	o := redis.Options(s.Socket)
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = time.Minute, time.Minute, time.Minute, time.Minute
	c := goredis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// take takes tokens and checks how many they are.
func take(t *testing.T, e *redis.Engine, key string, n int, r limit.Rate, want int) time.Duration {
	t.Helper()
	got, retryAfter, err := e.Take(t.Context(), key, n, r)
	if err != nil || got != want {
		t.Fatalf("Take(%q, %d) = %d, %v, %v; want %d tokens", key, n, got, retryAfter, err, want)
	}
	return retryAfter
}

func TestTakesWhatIsThere(t *testing.T) {
	e := redis.New(client(t, start(t, t.TempDir())), redis.Config{})
	if wait := take(t, e, "k", 4, slow, 4); wait != 0 {
		t.Errorf("all were granted, and retryAfter is %v, want 0", wait)
	}
	for _, tt := range []struct{ n, want int }{{100, 6}, {1, 0}, {100, 0}} {
		wait := take(t, e, "k", tt.n, slow, tt.want)
		if most := 1000 * time.Hour; wait > most || wait < most-10*time.Hour {
			t.Errorf("retryAfter is %v, want a little less than %v", wait, most)
		}
	}
}

func TestKeysAreIndependent(t *testing.T) {
	c := client(t, start(t, t.TempDir()))
	a, b := redis.New(c, redis.Config{}), redis.New(c, redis.Config{Prefix: "b:"})
	take(t, a, "k", 10, slow, 10)
	take(t, a, "k", 1, slow, 0)
	take(t, a, "other", 10, slow, 10)
	take(t, b, "k", 10, slow, 10)
	for _, key := range []string{"turret:limit:k", "turret:limit:other", "b:k"} {
		if c.Exists(t.Context(), key).Val() != 1 {
			t.Errorf("there is no key %q", key)
		}
	}
}

func TestZeroBurstMeansN(t *testing.T) {
	e := redis.New(client(t, start(t, t.TempDir())), redis.Config{})
	take(t, e, "k", 100, limit.Rate{N: 7, Per: 1000 * time.Hour}, 7)
}

// TestTokensComeAtTheRate takes all that comes for 1,000 takes. However long
// they last, no more than the burst and what came by the server's clock may be
// granted, and no fraction of a token may be lost.
func TestTokensComeAtTheRate(t *testing.T) {
	c := client(t, start(t, t.TempDir()))
	e := redis.New(c, redis.Config{})
	rate := limit.Rate{N: 1_000_000, Per: time.Second, Burst: 1 << 30}
	sum := rate.Burst
	take(t, e, "k", sum, rate, sum)
	_, first := stored(t, c)
	for range 1000 {
		got, _, err := e.Take(t.Context(), "k", 1<<30, rate)
		if err != nil {
			t.Fatal(err)
		}
		sum += got
	}
	left, last := stored(t, c)
	// A token comes each microsecond, which is the unit of the server's clock.
	if want := float64(rate.Burst) + float64(last-first); float64(sum)+left != want {
		t.Errorf("granted %d and kept %v in %d microseconds, want %v in all", sum, left, last-first, want)
	}
}

// TestKeepsFractionsOfTokens holds that a client which asks more often than
// tokens come loses nothing.
func TestKeepsFractionsOfTokens(t *testing.T) {
	c := client(t, start(t, t.TempDir()))
	e := redis.New(c, redis.Config{})
	rate := limit.Rate{N: 300, Per: time.Second, Burst: 1 << 30}
	take(t, e, "k", rate.Burst, rate, rate.Burst)
	_, first := stored(t, c)
	sum := 0
	for range 2000 {
		got, _, err := e.Take(t.Context(), "k", 100, rate)
		if err != nil {
			t.Fatal(err)
		}
		sum += got
	}
	left, last := stored(t, c)
	came := float64(last-first) * 300 / 1e6
	if lost := came - float64(sum) - left; lost < -1e-3 || lost > 1e-3 {
		t.Errorf("%v tokens came, %d were granted and %v kept: %v are lost", came, sum, left, lost)
	}
}

// stored returns what is kept of the limit k: tokens, and when they were counted.
func stored(t *testing.T, c *goredis.Client) (tokens float64, at int64) {
	t.Helper()
	fields := strings.Fields(c.Get(t.Context(), "turret:limit:k").Val())
	if len(fields) != 2 {
		t.Fatalf("the key has %q, want two numbers", fields)
	}
	tokens, err := strconv.ParseFloat(fields[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	at, err = strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, at
}

func TestAFullBucketIsForgotten(t *testing.T) {
	c := client(t, start(t, t.TempDir()))
	e := redis.New(c, redis.Config{})
	take(t, e, "k", 3, limit.Rate{N: 1, Per: time.Hour, Burst: 10}, 3)
	// It is full in 3 h, less what has passed since.
	if ttl := c.PTTL(t.Context(), "turret:limit:k").Val(); ttl > 3*time.Hour+time.Second || ttl < 2*time.Hour {
		t.Errorf("the key goes in %v, want a little less than 3h", ttl)
	}
	if c.PTTL(t.Context(), "turret:limit:none").Val() > 0 {
		t.Error("a key that was never used has a lifetime")
	}
}

func TestAClockThatGoesBackAddsNothing(t *testing.T) {
	c := client(t, start(t, t.TempDir()))
	e := redis.New(c, redis.Config{})
	const future = "9000000000000000" // microseconds: the year 2255
	c.Set(t.Context(), "turret:limit:k", "2.5 "+future, time.Hour)
	take(t, e, "k", 100, limit.PerSecond(1000), 2)
	if wait := take(t, e, "k", 1, limit.PerSecond(1000), 0); wait < time.Hour {
		t.Errorf("retryAfter is %v, want the time until the clock is there again", wait)
	}
	if kept := c.Get(t.Context(), "turret:limit:k").Val(); kept != "0.5 "+future {
		t.Errorf("kept %q, want 0.5 tokens at the same time", kept)
	}
}

func TestSaysWhatIsWrong(t *testing.T) {
	s := start(t, t.TempDir())
	c := client(t, s)
	e := redis.New(c, redis.Config{})
	c.Set(t.Context(), "turret:limit:text", "hello", 0)
	c.LPush(t.Context(), "turret:limit:list", "hello")
	for key, want := range map[string]string{
		"text": "redis: taking tokens: ERR the key of the limit has a value that is none of a limit",
		"list": "WRONGTYPE",
	} {
		if _, _, err := e.Take(t.Context(), key, 1, slow); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Take of a key with a %s fails with %v, want %q", key, err, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.Take(ended, "k", 1, slow); !errors.Is(err, context.Canceled) {
		t.Errorf("Take with a context that has ended fails with %v", err)
	}
	s.Kill()
	if _, _, err := e.Take(t.Context(), "k", 1, slow); err == nil || !strings.HasPrefix(err.Error(), "redis: taking tokens: ") {
		t.Errorf("Take from a server that is gone fails with %v", err)
	}
}

func TestNewRefusesWhatIsInvalid(t *testing.T) {
	for name, tt := range map[string]struct {
		client goredis.Scripter
		config redis.Config
		want   string
	}{
		"no client":      {nil, redis.Config{}, "redis: New: client is nil, must be a client"},
		"a prefix of kB": {goredis.NewClient(redis.Options("x:1")), redis.Config{Prefix: strings.Repeat("p", 257)}, "must be at most 256 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				err, _ := recover().(error)
				var field *turret.FieldError
				if !errors.As(err, &field) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("New panics with %v, want %q", err, tt.want)
				}
			}()
			redis.New(tt.client, tt.config)
		})
	}
}

// TestOptionsBoundTheWait holds that no default of go-redis makes a question
// last for seconds.
func TestOptionsBoundTheWait(t *testing.T) {
	c := goredis.NewClient(redis.Options("127.0.0.1:1"))
	defer func() { _ = c.Close() }()
	o := c.Options()
	for name, d := range map[string]time.Duration{
		"dial": o.DialTimeout, "read": o.ReadTimeout, "write": o.WriteTimeout, "pool": o.PoolTimeout,
	} {
		if d <= 0 || d > 100*time.Millisecond {
			t.Errorf("the %s timeout is %v, want at most 100ms", name, d)
		}
	}
	if o.MaxRetries != 0 || o.DialerRetries != 1 || !o.ContextTimeoutEnabled {
		t.Errorf("%d retries, %d dials, contexts heeded: %v", o.MaxRetries, o.DialerRetries, o.ContextTimeoutEnabled)
	}
}

// TestServerKilledAndRestarted lets a limit in front of a real server see it go
// and come back.
func TestServerKilledAndRestarted(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir)
	l := shared.New(redis.New(client(t, s), redis.Config{}), shared.Config{
		Key: "k", Rate: slow, Horizon: 10 * time.Millisecond, MaxLease: 1,
		Timeout: time.Minute, Wait: time.Minute, Expire: time.Hour, Probe: time.Millisecond,
		Local: limit.Rate{N: 1, Per: 1000 * time.Hour, Burst: 3},
	})
	in := func(want int) {
		t.Helper()
		for i := range want {
			if _, err := l.Enter(t.Context()); err != nil {
				t.Fatalf("call %d of %d is refused: %v (%v)", i+1, want, err, l)
			}
		}
	}
	in(4)
	if s := l.Stats(); s.Entered != 4 || s.Local != 0 || s.Away {
		t.Errorf("with the server: %+v", s)
	}
	s.Kill()
	in(3) // the local limit's burst
	if s := l.Stats(); s.Entered != 4 || s.Local != 3 || !s.Away || s.Err == nil {
		t.Errorf("without the server: %+v", s)
	}
	if _, err := l.Enter(t.Context()); !errors.Is(err, limit.ErrRate) {
		t.Errorf("a call beyond the local limit fails with %v, want %v", err, limit.ErrRate)
	}
	start(t, dir)
	for l.Stats().Away { // until a probe is answered
		_, _ = l.TryEnter(t.Context())
		pause(t)
	}
	for l.Stats().Entered < 14 { // the server has forgotten: it starts with its burst
		if _, err := l.Enter(t.Context()); err != nil && !l.Stats().Away {
			t.Fatalf("%d calls are let in after the restart, want 10: %v", l.Stats().Entered-4, err)
		}
	}
	if _, err := l.Enter(t.Context()); !errors.Is(err, limit.ErrRate) {
		t.Errorf("a call beyond the burst fails with %v, want %v", err, limit.ErrRate)
	}
}

// pause lets other goroutines run for a moment.
func pause(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
}

// TestLimitsShareTheirTokens holds the burst exactly over many clients at once.
func TestLimitsShareTheirTokens(t *testing.T) {
	c := client(t, start(t, t.TempDir()))
	rate := limit.Rate{N: 1, Per: 1000 * time.Hour, Burst: 100}
	entered := make(chan uint64)
	for range 10 {
		l := shared.New(redis.New(c, redis.Config{}), shared.Config{
			Key: "k", Rate: rate, Timeout: time.Minute, Wait: time.Minute, Expire: time.Hour, Horizon: 10 * time.Millisecond, MaxLease: 1,
		})
		go func() {
			var n uint64
			for {
				if _, err := l.Enter(t.Context()); err != nil {
					break
				}
				n++
			}
			entered <- n
		}()
	}
	var sum uint64
	for range 10 {
		sum += <-entered
	}
	if sum != 100 {
		t.Errorf("%d calls were let in, want 100", sum)
	}
}
