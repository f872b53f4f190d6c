package discovery

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sercand/kuberesolver/v6"
)

// A cluster plays the part of the API of Kubernetes that kuberesolver uses: a watch of
// the EndpointSlices of a service, which begins with those that there are. It is a
// kuberesolver.K8sClient too.
type cluster struct {
	http.Client

	port string

	mu      sync.Mutex
	server  *httptest.Server // nil: it is gone
	slices  map[string]slice // by name
	watches map[*watch]struct{}
	opened  int // watches
}

// A slice is the pods of an EndpointSlice.
type slice []pod

// A pod is an endpoint of a slice.
type pod struct {
	*server

	ready bool
}

// A watch is a request that is answered with changes until it is cut.
type watch struct {
	changes chan event
	cut     chan struct{}
}

// An event is what a watch sends.
type event struct {
	Type   string         `json:"type"`
	Object map[string]any `json:"object"`
}

// newCluster starts a cluster whose pods have this port.
func newCluster(t *testing.T, port string) *cluster {
	t.Helper()
	c := &cluster{
		Client: http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		port:   port, slices: map[string]slice{}, watches: map[*watch]struct{}{},
	}
	c.start()
	t.Cleanup(c.stop)
	return c
}

// start makes the API answer.
func (c *cluster) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server = httptest.NewServer(c)
}

// stop ends all watches, and makes the API go away.
func (c *cluster) stop() {
	c.mu.Lock()
	server := c.server
	c.server = nil
	c.mu.Unlock()
	if server != nil {
		c.cut()
		server.Close()
	}
}

// Host returns where the API is. It is another place after each start.
func (c *cluster) Host() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return ""
	}
	return c.server.URL
}

// GetRequest makes a request.
func (c *cluster) GetRequest(url string) (*http.Request, error) {
	if !strings.HasPrefix(url, "http") {
		return nil, errors.New("the API is gone")
	}
	return http.NewRequest(http.MethodGet, url, nil) //nolint:noctx // kuberesolver gives it one
}

// ServeHTTP answers a watch.
func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	const path = "/apis/discovery.k8s.io/v1/watch/namespaces/shop/endpointslices"
	if r.URL.Path != path || r.URL.Query().Get("labelSelector") != "kubernetes.io/service-name=orders" {
		http.NotFound(w, r)
		return
	}
	on := &watch{changes: make(chan event, 1000), cut: make(chan struct{})}
	c.open(on)
	w.Header().Set("Content-Type", "application/json")
	encoder, flusher := json.NewEncoder(w), http.NewResponseController(w)
	for {
		select {
		case e := <-on.changes:
			if encoder.Encode(e) != nil || flusher.Flush() != nil {
				return
			}
		case <-on.cut:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// open begins a watch with the slices that there are.
func (c *cluster) open(on *watch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened++
	c.watches[on] = struct{}{}
	if c.server == nil { // it has stopped since
		close(on.cut)
		delete(c.watches, on)
	}
	for name := range c.slices {
		on.changes <- c.event("ADDED", name)
	}
}

// cut ends all watches, as the API does every few minutes.
func (c *cluster) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for on := range c.watches {
		close(on.cut)
	}
	clear(c.watches)
}

// set makes a slice have these pods.
func (c *cluster) set(name string, pods ...pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	kind := "ADDED"
	if _, there := c.slices[name]; there {
		kind = "MODIFIED"
	}
	c.slices[name] = pods
	for on := range c.watches {
		on.changes <- c.event(kind, name)
	}
}

// event returns the event of a slice. It requires mu.
func (c *cluster) event(kind, name string) event {
	port, err := strconv.Atoi(c.port)
	if err != nil {
		panic(err)
	}
	endpoints := []map[string]any{}
	for _, p := range c.slices[name] {
		endpoints = append(endpoints, map[string]any{
			"addresses":  []string{p.host.String()},
			"conditions": map[string]any{"ready": p.ready, "serving": p.ready, "terminating": false},
		})
	}
	return event{kind, map[string]any{
		"metadata":    map[string]any{"name": name, "namespace": "shop"},
		"addressType": "IPv4",
		"endpoints":   endpoints,
		"ports":       []map[string]any{{"name": "grpc", "port": port}},
	}}
}

// opens returns how many watches were opened.
func (c *cluster) opens() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.opened
}

// ready returns servers as pods that are ready.
func ready(fleet ...*server) (all []pod) {
	for _, s := range fleet {
		all = append(all, pod{s, true})
	}
	return all
}

var _ kuberesolver.K8sClient = (*cluster)(nil)
