// Command failover shows what becomes of calls when a whole locality answers, but
// with UNAVAILABLE, and what a policy makes of it below gRPC's own priority policy.
// It prints the table of doc/balancing.md:
//
//	GOWORK=off go run ./failover
package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	_ "google.golang.org/grpc/xds" // registers "priority_experimental" and "outlier_detection_experimental"

	_ "github.com/turret-go/turret/balance" // registers "turret.P2C"
	"github.com/turret-go/turret/test/experiments/sim"
)

const (
	each  = 4 // backends of a locality
	ms    = time.Millisecond
	s     = time.Second
	begin = 10 * s
	end   = begin + 10*s
)

// scenario has two localities of four backends: those of a have the higher
// priority, and trouble from begin to end.
func scenario(id string, breakIt func(b *sim.Backend)) *sim.Scenario {
	return &sim.Scenario{
		ID: id, Clients: 1, Rate: 440, Duration: end + 30*s, From: begin, To: end, Timeout: s,
		Backends: func(*rand.Rand) []*sim.Backend {
			all := make([]*sim.Backend, 2*each)
			for i := range all {
				all[i] = new(sim.Backend)
				if i < each {
					breakIt(all[i])
				}
			}
			return all
		},
		Work: func(r *rand.Rand) sim.Work {
			return sim.Work{Method: "A", Service: 5*ms + time.Duration(r.Int64N(int64(10*ms)))}
		},
		Locality: func(i int) string {
			if i < each {
				return "a"
			}
			return "b"
		},
	}
}

// fails is a locality that answers UNAVAILABLE at once.
func fails() *sim.Scenario {
	return scenario("fails", func(b *sim.Backend) { b.Fails = []sim.Span{{From: begin, To: end}} })
}

// hangs is a locality that does not answer.
func hangs() *sim.Scenario {
	return scenario("hangs", func(b *sim.Backend) { b.Holes = []sim.Span{{From: begin, To: end}} })
}

const (
	p2c      = `{"turret.P2C":{%s"seed":%d}}`
	detected = `{"outlier_detection_experimental":{"interval":"1s","baseEjectionTime":"3s","maxEjectionPercent":100,` +
		`"failurePercentageEjection":{"threshold":50,"enforcementPercentage":100,"minimumHosts":1,"requestVolume":5},"childPolicy":[%s]}}`
)

// policies are what is put below the priority policy.
var policies = []*sim.Policy{
	prioritized("turret.P2C, onBanned fail_over", func(seed uint64) string { return fmt.Sprintf(p2c, `"onBanned":"fail_over",`, seed) }),
	prioritized("turret.P2C", func(seed uint64) string { return fmt.Sprintf(p2c, "", seed) }),
	prioritized("round_robin", func(uint64) string { return `{"round_robin":{}}` }),
	prioritized("outlier detection, round_robin", func(uint64) string { return fmt.Sprintf(detected, `{"round_robin":{}}`) }),
	prioritized("outlier detection, turret.P2C without bans", func(seed uint64) string {
		return fmt.Sprintf(detected, fmt.Sprintf(p2c, `"maxBanned":-1,`, seed))
	}),
}

func prioritized(name string, child func(seed uint64) string) *sim.Policy {
	return &sim.Policy{Name: name, Config: func(_ int, seed uint64) string {
		c := child(seed)
		return `{"loadBalancingConfig":[{"priority_experimental":{"priorities":["a","b"],"children":{` +
			`"a":{"config":[` + c + `],"ignoreReresolutionRequests":true},"b":{"config":[` + c + `],"ignoreReresolutionRequests":true}}}}]}`
	}}
}

// An outcome is what came of a run.
type outcome struct {
	calls, failed int           // of those that began in the ten seconds of trouble
	longest       time.Duration // of the calls that succeeded, from the beginning of the trouble
	back          time.Duration // from healing until 9 of 10 calls of a second went to a; negative: never
}

func run(t *testing.T, sc *sim.Scenario, p *sim.Policy, seed uint64) outcome {
	r := sim.Run(t, sc, p, seed)
	judged := r.Judged(sc)
	o := outcome{calls: len(judged), failed: sim.Failed(judged), back: -1}
	for _, c := range r.Between(begin, sc.Duration) {
		if !c.Failed {
			o.longest = max(o.longest, c.Took)
		}
	}
	for at := end; at+s <= sc.Duration; at += sim.BinWidth {
		share := 0.0
		for i := range each {
			share += r.Share(i, 1, at, at+s)
		}
		if share >= 0.9 {
			o.back = at - end
			break
		}
	}
	return o
}

func main() {
	sim.Host(func(t *testing.T) {
		fmt.Println("| below `priority` | locality a | calls that fail, of 10 s | longest success | all back, after healing |\n|---|---|--:|--:|--:|")
		for _, make := range []func() *sim.Scenario{fails, hangs} {
			for _, p := range policies {
				fmt.Println(row(t, make, p))
			}
		}
	})
}

// row runs the seeds 1, 2 and 3 and writes the range of what came of them.
func row(t *testing.T, make func() *sim.Scenario, p *sim.Policy) string {
	var worst, best outcome
	for seed := range uint64(3) {
		o := run(t, make(), p, seed+1)
		if seed == 0 {
			worst, best = o, o
		}
		worst = outcome{o.calls, max(worst.failed, o.failed), max(worst.longest, o.longest), max(worst.back, o.back)}
		best = outcome{o.calls, min(best.failed, o.failed), min(best.longest, o.longest), min(best.back, o.back)}
	}
	back := fmt.Sprintf("%.1f to %.1f s", best.back.Seconds(), worst.back.Seconds())
	if best.back < 0 {
		back = "not in 30 s"
	}
	return fmt.Sprintf("| %s | %s | %d to %d of %d | %d ms | %s |",
		p.Name, make().ID, best.failed, worst.failed, worst.calls, worst.longest.Milliseconds(), back)
}
