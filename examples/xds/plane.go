package main

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	xdsserver "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// A plane is a control plane in this process: go-control-plane's ADS server.
type plane struct {
	address string
	cache   cache.SnapshotCache
	grpc    *grpc.Server
	running context.Context //nolint:containedctx // ends with the plane
	cancel  context.CancelFunc

	mu       sync.Mutex
	version  int
	sent     map[string]string // the versions of the cluster by stream and nonce
	accepted map[string]bool   // versions of the cluster that the client has acknowledged
	refused  map[string]string // and those that it has refused, with its reason
	stopped  chan struct{}
}

func startPlane(ctx context.Context) (*plane, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &plane{
		address: l.Addr().String(), cache: cache.NewSnapshotCache(true, cache.IDHash{}, nil), grpc: grpc.NewServer(), running: ctx, cancel: cancel,
		sent: map[string]string{}, accepted: map[string]bool{}, refused: map[string]string{}, stopped: make(chan struct{}),
	}
	ads := xdsserver.NewServer(ctx, p.cache, xdsserver.CallbackFuncs{StreamResponseFunc: p.send, StreamRequestFunc: p.answered})
	discovery.RegisterAggregatedDiscoveryServiceServer(p.grpc, ads)
	go func() {
		defer close(p.stopped)
		_ = p.grpc.Serve(l) // ends with Stop
	}()
	return p, nil
}

func (p *plane) stop() {
	p.grpc.Stop()
	p.cancel()
	<-p.stopped
}

// publish makes resources what a node gets from now on, and returns their version.
func (p *plane) publish(node string, resources map[resource.Type][]types.Resource) (version string, err error) {
	p.mu.Lock()
	p.version++
	version = strconv.Itoa(p.version)
	p.mu.Unlock()
	s, err := cache.NewSnapshot(version, resources)
	if err != nil {
		return "", err
	}
	return version, p.cache.SetSnapshot(context.Background(), node, s)
}

func sending(stream int64, nonce string) string { return fmt.Sprint(stream, " ", nonce) }

// send notes which version of the cluster goes to the client.
func (p *plane) send(_ context.Context, stream int64, _ *discovery.DiscoveryRequest, r *discovery.DiscoveryResponse) {
	if r.GetTypeUrl() == resource.ClusterType {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.sent[sending(stream, r.GetNonce())] = r.GetVersionInfo()
	}
}

// answered notes what the client says of a cluster that it was sent.
func (p *plane) answered(stream int64, r *discovery.DiscoveryRequest) error {
	if r.GetTypeUrl() != resource.ClusterType || r.GetResponseNonce() == "" {
		return nil
	}
	p.mu.Lock()
	version := p.sent[sending(stream, r.GetResponseNonce())]
	if e := r.GetErrorDetail(); e != nil {
		p.refused[version] = e.GetMessage()
	} else {
		p.accepted[version] = true
	}
	p.mu.Unlock()
	if r.GetErrorDetail() != nil {
		// The cache would send the refused version again at once, hundreds of times a
		// second.
		wait(p.running, 100*time.Millisecond)
	}
	return nil
}

// outcome waits until the client has taken a version or refused it, and returns the
// reason in the second case.
func (p *plane) outcome(ctx context.Context, version string) (refused string, err error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		p.mu.Lock()
		taken := p.accepted[version]
		refused, no := p.refused[version]
		p.mu.Unlock()
		if taken || no {
			return refused, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the client has not answered version %s: %w", version, ctx.Err())
		case <-tick.C:
		}
	}
}
