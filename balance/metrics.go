package balance

import (
	"google.golang.org/grpc/experimental/stats"
)

// Metrics of the policy, for a stats.Handler of the channel that records them
// (grpc's own OpenTelemetry plugin does for those in its metric set). They are
// only touched when something is wrong with an endpoint.
var (
	bansMetric = stats.RegisterInt64Count(stats.MetricDescriptor{
		Name:        "turret.p2c.bans",
		Description: "Times that an endpoint was banned, a failed probe included.",
		Unit:        "{ban}",
		Labels:      []string{"grpc.target", "turret.p2c.cause"}, // cause: failures or latency
	})
	panicsMetric = stats.RegisterInt64Count(stats.MetricDescriptor{
		Name:        "turret.p2c.panics",
		Description: "Calls that were sent to a banned endpoint because no other was found.",
		Unit:        "{call}",
		Labels:      []string{"grpc.target"},
	})
)

// banned counts an endpoint that was banned.
func (p *policy) banned(cause string) {
	bansMetric.Record(p.MetricsRecorder(), 1, p.target, cause)
}

// panicked counts a call that is sent to a banned endpoint.
func (p *policy) panicked() { panicsMetric.Record(p.MetricsRecorder(), 1, p.target) }
