package discovery

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	etcdresolver "go.etcd.io/etcd/client/v3/naming/resolver"
)

// dialEtcd returns a client of the endpoints in e.
func dialEtcd(t *testing.T, k kind, e *etcd) *client {
	t.Helper()
	builder, err := etcdresolver.NewBuilder(e.Client)
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, k, "etcd:///"+service, builder)
}

// Endpoints are added, changed and deleted in etcd while calls run.
func TestEtcdEndpointsComeAndGo(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 4)
		e := newEtcd(t)
		for _, s := range fleet[:3] {
			e.put(s, nil)
		}
		c := dialEtcd(t, k, e)
		c.await(fleet[:3]...)
		c.start()
		e.put(fleet[3], nil)
		c.await(fleet...)
		for i := range 5 {
			c.another(func() { e.put(fleet[0], "release "+strconv.Itoa(i)) })
		}
		e.remove(fleet[2])
		c.await(fleet[0], fleet[1], fleet[3])
		c.turnOver()
		c.noneFailed()
		c.keptConnections(fleet[0], fleet[1], fleet[3])
	})
}

// A banned endpoint stays banned when its entry in etcd changes, is deleted and put
// again, and when its lease is revoked or expires.
func TestEtcdBansOutliveLeases(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 4)
		last, others := fleet[3], fleet[:3]
		e := newEtcd(t)
		for _, s := range fleet {
			e.put(s, nil)
		}
		c := dialEtcd(t, k, e)
		c.await(fleet...)
		c.start()
		c.ban(last)
		before := c.callsTo(last)
		still := func(after string) {
			t.Helper()
			c.await(fleet...)
			c.turnOver()
			if state, more := c.states()[last.address], c.callsTo(last)-before; state != "banned" || more != 0 {
				t.Errorf("after %s: the banned endpoint is %s, with %d more calls", after, state, more)
			}
		}

		c.another(func() { e.put(last, "release 2") })
		still("a change of its metadata")

		e.remove(last)
		c.await(others...)
		e.put(last, nil)
		still("a deletion")

		e.revoke(e.lend(last, time.Hour))
		c.await(others...)
		e.put(last, nil)
		still("the end of its lease")

		e.expires(last)
		c.await(others...)
		e.put(last, nil)
		still("the expiry of its lease")

		c.noneFailed()
		c.keptConnections(others...)
	})
}

// etcd is stopped: the endpoints stay, and calls go on. It is started again: the
// resolver follows it again.
func TestEtcdStopsAndStarts(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 4)
		e := newEtcd(t)
		for _, s := range fleet[:3] {
			e.put(s, nil)
		}
		c := dialEtcd(t, k, e)
		c.await(fleet[:3]...)
		c.start()
		e.stop()
		for range 20 {
			c.turnOver()
		}
		c.await(fleet[:3]...)
		e.start()
		e.put(fleet[3], nil)
		c.await(fleet...)
		c.turnOver()
		c.noneFailed()
		c.keptConnections(fleet...)
	})
}

// The resolver has lost etcd, and when it finds it again the changes of meanwhile
// were compacted. etcd's resolver then ends without a word: the endpoints stay, calls
// go on, and no later change arrives.
func TestEtcdCompactsWhatTheResolverMissed(t *testing.T) {
	leavesNothing(t)
	fleet := newFleet(t, 3)
	e := newEtcd(t)
	for _, s := range fleet {
		e.put(s, nil)
	}
	c := dialEtcd(t, policy, e)
	c.await(fleet...)
	c.start()
	e.part(func(other *clientv3.Client) {
		var revision int64
		for range 2 { // a compaction keeps the last one
			e.do("put", func() error {
				r, err := other.Put(t.Context(), "other", "")
				if err == nil {
					revision = r.Header.Revision
				}
				return err
			})
		}
		e.do("compact", func() error {
			_, err := other.Compact(t.Context(), revision)
			if errors.Is(err, rpctypes.ErrCompacted) {
				return nil // an attempt of before did it
			}
			return err
		})
	})
	eventually(t, "the resolver has ended", func() bool {
		for _, stack := range goroutines() {
			if strings.Contains(stack, "naming/resolver.(*resolver).watch") {
				return false
			}
		}
		return true
	})
	e.remove(fleet[2])
	c.turnOver()
	c.await(fleet...)
	c.noneFailed()
	c.keptConnections(fleet...)
}
