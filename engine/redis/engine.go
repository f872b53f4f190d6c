package redis

import (
	"cmp"
	"context"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

var _ shared.Engine = (*Engine)(nil)

// A Config says where an [Engine] keeps its tokens. The zero value is a good
// default.
type Config struct {
	// Prefix comes before the key of a limit in the name of its key in the
	// server. Empty: "turret:limit:". At most 256 bytes. All processes that share
	// a limit must have the same Prefix.
	Prefix string
}

const (
	defaultPrefix = "turret:limit:"
	mostPrefix    = 256
)

// Validate returns a [*turret.FieldError] if Prefix is too long.
func (c Config) Validate() error {
	if len(c.Prefix) > mostPrefix {
		return &turret.FieldError{Package: "redis", Field: "Prefix", Value: c.Prefix, Bound: fmt.Sprintf("at most %d bytes", mostPrefix)}
	}
	return nil
}

// Options returns options for a client that fits an [Engine]: a question takes
// 100 ms at most, ends with its context, and is not asked again. The defaults of
// go-redis wait for seconds and try again, up to five times for a connection;
// the callers of a rate limit cannot. Everything else is go-redis' default, and
// all of it may be changed before the client is made.
//
// addr is "host:port", or the path of a Unix socket.
func Options(addr string) *goredis.Options {
	const most = 100 * time.Millisecond
	return &goredis.Options{
		Addr:                  addr,
		DialTimeout:           most,
		ReadTimeout:           most,
		WriteTimeout:          most,
		PoolTimeout:           most,
		DialerRetries:         1,
		MaxRetries:            -1,
		ContextTimeoutEnabled: true,
	}
}

// Engine is a [shared.Engine] whose tokens are in a Redis or Valkey server. Its
// methods may be called concurrently. Use [New].
type Engine struct {
	client goredis.Scripter
	prefix string
}

// New returns an engine that asks through client, which may be a Client, a
// ClusterClient or a Ring of go-redis; [Options] are those that fit. The caller
// closes the client. New panics if client is nil or c is invalid.
func New(client goredis.Scripter, c Config) *Engine {
	if client == nil {
		misuse.Check("redis: New", &turret.FieldError{Package: "redis", Field: "client", Value: nil, Bound: "a client"})
	}
	misuse.Check("redis: New", c.Validate())
	return &Engine{client, cmp.Or(c.Prefix, defaultPrefix)}
}

// Take takes up to n tokens of the limit key; [shared.Engine] has the rules. It
// is one round trip, or two if the server does not know the script yet. Its
// error wraps that of the client.
func (e *Engine) Take(ctx context.Context, key string, n int, rate limit.Rate) (granted int, retryAfter time.Duration, err error) {
	burst := cmp.Or(rate.Burst, rate.N)
	micros := float64(rate.Per) / float64(time.Microsecond)
	answer, err := take.Run(ctx, e.client, []string{e.prefix + key}, n, burst, rate.N, micros).Int64Slice()
	switch {
	case err != nil:
		return 0, 0, fmt.Errorf("redis: taking tokens: %w", err)
	case len(answer) != 2:
		return 0, 0, fmt.Errorf("redis: the script answered %v, want two numbers", answer)
	}
	return int(answer[0]), time.Duration(answer[1]) * time.Microsecond, nil
}

// take is a token bucket: KEYS[1] has how many tokens there were and when, in
// microseconds of the server's clock. Both numbers are exact in a double. A key
// that is not there is a full bucket. A clock that goes back adds nothing.
//
// It answers how many tokens it took and, if they are fewer than asked for, in
// how many microseconds there will be another. It writes only if it took some.
var take = goredis.NewScript(`
local n, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local each = tonumber(ARGV[4]) / tonumber(ARGV[3]) -- microseconds for a token

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local tokens, at = burst, now

local kept = redis.call('GET', KEYS[1])
if kept then
  local had, since = string.match(kept, '^(%S+) (%d+)$')
  if not had then
    return redis.error_reply('ERR the key of the limit has a value that is none of a limit')
  end
  tokens, at = tonumber(had), math.max(now, tonumber(since))
  tokens = math.min(burst, tokens + (at - tonumber(since)) / each)
end

local granted = math.min(n, math.floor(tokens))
tokens = tokens - granted
if granted > 0 then
  local full = (burst - tokens) * each + (at - now)
  redis.call('SET', KEYS[1], string.format('%.17g %.0f', tokens, at), 'PX', string.format('%.0f', full / 1000 + 1))
end
if granted == n then
  return {granted, 0}
end
return {granted, math.ceil((1 - tokens) * each + (at - now))}
`)
