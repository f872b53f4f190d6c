// Package redis keeps the tokens of shared limits in Redis or Valkey: [Engine]
// is a [shared.Engine] over a client of github.com/redis/go-redis.
//
//	client := goredis.NewClient(redis.Options("localhost:6379"))
//	engine := redis.New(client, redis.Config{})
//	gate := shared.New(engine, shared.Config{Key: "orders", Rate: limit.PerSecond(1000)})
//
// Each limit is one key of the server: a token bucket that a script of a few
// lines fills by the server's clock, so that the clocks of the clients do not
// matter. The key goes by itself when the bucket is full again. A server that
// loses its data starts with full buckets.
//
// The server must be Redis 5 or later, or Valkey. It needs EVALSHA and EVAL, and
// the commands TIME, GET and SET within the script.
package redis
