package discovery

import (
	"testing"

	"github.com/sercand/kuberesolver/v6"
)

// dialKubernetes returns a client of the pods of a service of the cluster.
func dialKubernetes(t *testing.T, k kind, pods *cluster) *client {
	t.Helper()
	return dial(t, k, "kubernetes:///orders.shop:grpc", kuberesolver.NewBuilder(pods, "kubernetes"))
}

// Pods come, go and are replaced, while calls run.
func TestKubernetesPodsComeAndGo(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 4)
		pods := newCluster(t, port(fleet))
		pods.set("a", ready(fleet[:3]...)...)
		c := dialKubernetes(t, k, pods)
		c.await(fleet[:3]...)
		c.start()
		pods.set("a", ready(fleet...)...)
		c.await(fleet...)
		pods.set("a", ready(fleet[1:]...)...)
		c.await(fleet[1:]...)
		c.turnOver()
		c.noneFailed()
		c.keptConnections(fleet[1:]...)
	})
}

// A pod that is banned stays banned while its readiness flaps. The others keep their
// connections, and no update is empty: where no pod is ready kuberesolver sends none.
func TestKubernetesReadinessFlaps(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 4)
		last, others := fleet[3], fleet[:3]
		pods := newCluster(t, port(fleet))
		pods.set("a", ready(fleet...)...)
		c := dialKubernetes(t, k, pods)
		c.await(fleet...)
		c.start()
		c.ban(last)
		before := c.callsTo(last)
		for range 10 {
			pods.set("a", append(ready(others...), pod{last, false})...)
			c.await(others...)
			pods.set("a", pod{fleet[0], false}, pod{fleet[1], false}, pod{fleet[2], false}, pod{last, false})
			pods.set("a", ready(fleet...)...)
			c.await(fleet...)
		}
		c.turnOver()
		if state, more := c.states()[last.address], c.callsTo(last)-before; state != "banned" || more != 0 {
			t.Errorf("the banned pod is %s, with %d more calls", state, more)
		}
		if n := c.found.withoutEndpoints(); n != 0 {
			t.Errorf("%d updates without endpoints", n)
		}
		c.noneFailed()
		c.keptConnections(others...)
	})
}

// The watch ends, and is opened again; then the API is gone. The pods stay, and calls
// go on. The API is back, and is followed.
func TestKubernetesWatchEnds(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 4)
		pods := newCluster(t, port(fleet))
		pods.set("a", ready(fleet[:3]...)...)
		c := dialKubernetes(t, k, pods)
		c.await(fleet[:3]...)
		c.start()
		pods.cut()
		eventually(t, "the watch is opened again", func() bool { return pods.opens() >= 2 })
		c.turnOver()
		pods.stop()
		c.turnOver()
		pods.set("a", ready(fleet...)...)
		pods.start()
		c.await(fleet...)
		c.turnOver()
		c.noneFailed()
		c.keptConnections(fleet...)
	})
}

// A service of more than a hundred pods has several slices, and so has one of two
// families of addresses. kuberesolver takes each event's slice for all of the service.
// No call fails for that.
func TestKubernetesSlicesReplaceEachOther(t *testing.T) {
	bothKinds(t, func(t *testing.T, k kind) {
		fleet := newFleet(t, 4)
		pods := newCluster(t, port(fleet))
		pods.set("a", ready(fleet[:2]...)...)
		c := dialKubernetes(t, k, pods)
		c.await(fleet[:2]...)
		c.start()
		for range 10 {
			pods.set("b", ready(fleet[2:]...)...)
			c.await(fleet[2:]...)
			pods.set("a", ready(fleet[:2]...)...)
			c.await(fleet[:2]...)
		}
		c.turnOver()
		c.noneFailed()
	})
}
