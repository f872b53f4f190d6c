package statusz

import (
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
