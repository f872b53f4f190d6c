package main

import (
	"context"
	"errors"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/turret-go/turret/engine/redis"
	"github.com/turret-go/turret/internal/redisserver"
	"github.com/turret-go/turret/limit"
)

// redisBackend is a real server.
type redisBackend struct {
	*redis.Engine

	dir    string
	client *goredis.Client
	server *redisserver.Server // nil while it is dead
}

// startRedis starts a server whose socket is in dir.
func startRedis(ctx context.Context, dir string) (*redisBackend, error) {
	server, err := redisserver.Start(ctx, dir)
	if err != nil {
		return nil, err
	}
	goredis.SetLogger(silent{}) // it would print each dial that fails
	client := goredis.NewClient(redis.Options(server.Socket))
	return &redisBackend{redis.New(client, redis.Config{}), dir, client, server}, nil
}

// silent logs nothing.
type silent struct{}

// Printf does nothing.
func (silent) Printf(context.Context, string, ...any) {}

func (r *redisBackend) String() string { return "a Redis or Valkey server" }

func (r *redisBackend) close() { _ = r.client.Close() }

func (r *redisBackend) kill() {
	if r.server != nil {
		r.server.Kill()
		r.server = nil
	}
}

func (r *redisBackend) restart(ctx context.Context) (err error) {
	if r.server == nil {
		r.server, err = redisserver.Start(ctx, r.dir)
	}
	return err
}

// memory stands in for a server where none is installed.
type memory struct {
	mu     sync.Mutex
	bucket *limit.TokenBucket // nil while it is dead
}

var errDead = errors.New("the engine in memory is dead")

func (m *memory) String() string { return "in memory: " + redisserver.ErrMissing.Error() }

// Take takes up to n tokens of the only limit.
func (m *memory) Take(ctx context.Context, _ string, n int, _ limit.Rate) (int, time.Duration, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bucket == nil {
		return 0, 0, errDead
	}
	for got := range n {
		if _, err := m.bucket.TryEnter(ctx); err != nil {
			return got, 0, nil // a refusal is an answer
		}
	}
	return n, 0, nil
}

func (m *memory) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bucket = nil
}

func (m *memory) restart(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bucket = limit.NewTokenBucket(rate, limit.Queue{})
	return nil
}
