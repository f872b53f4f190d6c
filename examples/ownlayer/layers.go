package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
)

// nothing is the smallest layer: it embeds the service it wraps.
type nothing struct{ interceptors.Service }

// Nothing returns a layer that does nothing.
func Nothing() interceptors.Layer {
	return func(inner interceptors.Service) interceptors.Service { return nothing{inner} }
}

// Greet returns a layer made of a function.
func Greet(log *slog.Logger) interceptors.Layer {
	return turret.Wrap(func(ctx context.Context, rpc *interceptors.RPC, inner interceptors.Service) (any, error) {
		log.InfoContext(ctx, "an RPC begins", "method", rpc.Method, "side", rpc.Side.String())
		return inner.Call(ctx, rpc)
	})
}

// A Sample is how long one RPC took, and how it went.
type Sample struct {
	Method  string
	Kind    interceptors.Kind
	Took    time.Duration
	Outcome turret.Outcome
}

// latency measures RPCs from their opening to their end.
type latency struct {
	interceptors.Service

	record func(Sample)
}

// Latency returns a layer that tells record of every RPC. record may be called
// concurrently.
func Latency(record func(Sample)) interceptors.Layer {
	return func(inner interceptors.Service) interceptors.Service { return &latency{inner, record} }
}

func (l *latency) Call(ctx context.Context, rpc *interceptors.RPC) (reply any, err error) {
	start := time.Now()
	outcome := turret.Failure // unless the call returns
	defer func() { l.record(Sample{rpc.Method, rpc.Kind, time.Since(start), outcome}) }()
	reply, err = l.Service.Call(ctx, rpc)
	outcome = interceptors.Classify(ctx, rpc, reply, err)
	return reply, err
}

func (l *latency) String() string { return "latency" }

// timed is the same for services of any type: it knows neither gRPC nor RPCs.
type timed[Req, Res any] struct {
	turret.Service[Req, Res]

	record func(time.Duration, turret.Outcome)
}

// Timed returns a layer for services of any type that tells record how long
// each call took and how it went.
func Timed[Req, Res any](record func(time.Duration, turret.Outcome)) turret.Layer[Req, Res] {
	return func(inner turret.Service[Req, Res]) turret.Service[Req, Res] {
		return &timed[Req, Res]{inner, record}
	}
}

func (t *timed[Req, Res]) Call(ctx context.Context, req Req) (res Res, err error) {
	start := time.Now()
	outcome := turret.Failure
	defer func() { t.record(time.Since(start), outcome) }()
	res, err = t.Service.Call(ctx, req)
	outcome = turret.Classify(ctx, err)
	return res, err
}
