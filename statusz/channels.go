package statusz

import (
	"cmp"
	"fmt"
	"strconv"
	"sync"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/balance"
)

// mostChannels is how many channels of the process are shown.
const mostChannels = 50

// isChannel reports whether a node has endpoints.
func isChannel(n *turret.Node) bool {
	return n.Kind == "p2c" || n.Kind == "balancer" || n.Kind == "clientconn"
}

// channelTrees describes the channels of the process that use package balance.
func channelTrees(endpoints int) []tree {
	var trees []tree
	seen := map[string]int{}
	for target, channel := range balance.Channels() {
		if len(trees) >= mostChannels {
			break
		}
		if seen[target]++; seen[target] > 1 {
			target += " " + strconv.Itoa(seen[target])
		}
		trees = append(trees, tree{target, turret.Describe(channel, endpoints)})
	}
	return trees
}

// channel adds a channel and its endpoints.
func (l *look) channel(t tree) {
	n := &t.node
	f := figuresOf(n)
	c := Channel{Name: cmp.Or(n.Name, t.name), Title: n.Title, More: n.More}
	c.Bans = f.sum("bans")
	key := "channel/" + t.name
	total := 0.0
	for i := range n.Children {
		child := &n.Children[i]
		if child.Kind != "endpoint" {
			continue
		}
		if l.rows--; l.rows < 0 {
			c.More++
			continue
		}
		e := l.endpoint(key+"/"+child.Name, c.Name, child)
		total += e.Calls
		c.Endpoints = append(c.Endpoints, e)
	}
	c.Known = len(c.Endpoints) + c.More
	c.InUse = int(f.value("endpoints_in_use"))
	for i := range c.Endpoints {
		if total > 0 {
			c.Endpoints[i].Share = c.Endpoints[i].Calls / total
		}
	}
	l.describes(c.Name, n, f)
	l.judgeChannel(&c, f)
	l.view.Channels = append(l.view.Channels, c)
}

func (l *look) endpoint(key, channel string, n *turret.Node) Endpoint {
	f := figuresOf(n)
	e := Endpoint{
		Name: n.Name, State: f.text("state"), Why: f.text("why"),
		InFlight: f.value("in_flight"), Latency: f.value("latency"), Bans: f.sum("bans"),
	}
	e.Calls, e.curve = l.history.count(key, f.value("calls"))
	e.Failed, _ = l.history.count(key+"#failed", f.value("failures"))
	if e.State != "in_use" {
		e.Latency = 0 // it is of the last call that succeeded
	}
	l.connection(key, e.Name+" of "+channel, e.State)
	l.describes(e.Name, n, f)
	for i := range n.Children { // its own layers: what is wrong with them
		if l.budget > 0 {
			l.part(fmt.Sprintf("%s/%d", key, i), e.Name, &n.Children[i], 0)
		}
	}
	return e
}

// connection notes whether an endpoint can be reached. Bans come with their
// evidence, as transitions.
func (l *look) connection(key, where, state string) {
	switch state {
	case "unreachable":
		l.state(key, where, "cannot be reached", "", true)
	case "in_use":
		l.state(key, where, "connected", "", false)
	default:
		if before, known := l.states[key]; known {
			l.seen[key] = before
		}
	}
}

// transitions are those that no View has yet, the newest last; at most
// mostChanges. Calls add to them, so the lock is held for moments only.
type transitions struct {
	mu   sync.Mutex
	news []Change
}

func (t *transitions) note(n balance.Transition) {
	c := Change{When: n.When, Where: n.Endpoint, What: "in use again", Why: n.Why(), Bad: n.Banned}
	if n.Banned {
		c.What = "banned for " + seconds(n.BanFor.Seconds())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.news) >= mostChanges {
		t.news = t.news[1:]
	}
	t.news = append(t.news, c)
}

func (t *transitions) take() []Change {
	t.mu.Lock()
	defer t.mu.Unlock()
	news := t.news
	t.news = nil
	return news
}
