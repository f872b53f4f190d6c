package reference_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/turret-go/turret/engine/rls"
	"github.com/turret-go/turret/engine/rls/reference"
	"github.com/turret-go/turret/internal/redisserver"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/limit/shared"
)

// perSecond and perYear are the keys of the server's limits. Where a test counts
// exactly, its limit is of a year, so that all of it lies in one window.
const (
	perSecond = "second"
	perYear   = "year"

	limits = `
domain: shop
descriptors:
  - {key: turret, value: second, rate_limit: {unit: second, requests_per_unit: 300}}
  - {key: turret, value: year, rate_limit: {unit: year, requests_per_unit: 100}}
`
)

// A site is a Redis server and a rate limit server that keeps its counts there.
type site struct {
	redisDir string
	redis    *redisserver.Server
	config   reference.Config
	server   *reference.Server
}

// start starts both.
func start(t *testing.T) *site {
	t.Helper()
	program, err := reference.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{redisDir: t.TempDir()}
	s.startRedis(t)
	s.config = reference.Config{Program: program, Dir: t.TempDir(), Redis: s.redis.Socket, Limits: limits}
	s.startServer(t)
	return s
}

func (s *site) startRedis(t *testing.T) {
	t.Helper()
	r, err := redisserver.Start(t.Context(), s.redisDir)
	if err != nil {
		t.Fatal(err)
	}
	s.redis = r
	t.Cleanup(r.Kill)
}

func (s *site) startServer(t *testing.T) {
	t.Helper()
	server, err := reference.Start(t.Context(), s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.server = server
	t.Cleanup(server.Kill)
}

// engine returns an engine with a connection of its own.
func (s *site) engine(t *testing.T) *rls.Engine {
	t.Helper()
	conn, err := grpc.NewClient(s.server.Target, append(rls.DialOptions(), grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return rls.New(conn, rls.Config{Domain: "shop"})
}

// patient is the config of a limit that takes no answer for late and no lease for
// old, however long the machine stands still, and that counts exactly: it asks for
// one token at a time, and only when a call needs it.
func patient(key string) shared.Config {
	return shared.Config{
		Key: key, Rate: limit.PerSecond(1000), MaxLease: 1,
		Timeout: time.Hour, Wait: time.Hour, Expire: time.Hour, Probe: time.Millisecond,
	}
}

// answers calls l until the engine is not away.
func answers(t *testing.T, l *shared.Limit) {
	t.Helper()
	for l.Stats().Away {
		_, _ = l.TryEnter(t.Context())
		pause(t)
	}
}

// pause lets other goroutines run for a moment.
func pause(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
}
