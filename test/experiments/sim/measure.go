package sim

import (
	"slices"
	"time"
)

// Judged returns the calls that begin in the scenario's window, without those
// that their own callers cancelled.
func (r *Result) Judged(s *Scenario) []Call { return r.Between(s.From, s.To) }

// Between returns the calls that begin in [from, to), without those that their
// own callers cancelled.
func (r *Result) Between(from, to time.Duration) []Call {
	var judged []Call
	for _, c := range r.Calls {
		if c.At >= from && c.At < to && !c.Dropped {
			judged = append(judged, c)
		}
	}
	return judged
}

// Quantiles returns the latencies at these quantiles.
func Quantiles(calls []Call, at ...float64) []time.Duration {
	took := make([]time.Duration, 0, len(calls))
	for _, c := range calls {
		took = append(took, c.Took)
	}
	slices.Sort(took)
	out := make([]time.Duration, len(at))
	for i, q := range at {
		if len(took) > 0 {
			out[i] = took[min(len(took)-1, int(q*float64(len(took))))]
		}
	}
	return out
}

// Failed returns how many calls failed.
func Failed(calls []Call) (n int) {
	for _, c := range calls {
		if c.Failed {
			n++
		}
	}
	return n
}

// Sent returns how many calls came to the backends, of all attempts, as a multiple of
// the calls that were made.
func (r *Result) Sent() float64 {
	arrived := 0
	for _, bins := range r.Arrivals {
		for _, n := range bins {
			arrived += int(n)
		}
	}
	return float64(arrived) / float64(max(len(r.Calls), 1))
}

// Share returns the part of all arrivals in [from, to) that one backend had,
// as a multiple of the fair share of this many backends.
func (r *Result) Share(backend, backends int, from, to time.Duration) float64 {
	mine, all := 0, 0
	for i, bins := range r.Arrivals {
		for _, n := range bins[min(len(bins), int(from/BinWidth)):min(len(bins), int(to/BinWidth))] {
			all += int(n)
			if i == backend {
				mine += int(n)
			}
		}
	}
	if all == 0 {
		return 0
	}
	return float64(mine) * float64(backends) / float64(all)
}
