package sim

import (
	"math/rand/v2"
	"time"
)

const (
	ms = time.Millisecond
	s1 = time.Second
)

// slowBetween makes backend i this many times slower for a while.
func slowBetween(i int, factor float64, from, to time.Duration) func(int, *Backend) {
	return func(j int, b *Backend) {
		if i == j {
			b.Slow = func(at time.Duration) float64 {
				if at >= from && at < to {
					return factor
				}
				return 1
			}
		}
	}
}

// onset draws when the trouble of a seed begins: between 10 and 20 s, so that
// no policy's own rhythm decides the result.
func onset(r *rand.Rand) time.Duration { return 10*s1 + time.Duration(r.Int64N(int64(10*s1))) }

// pauses draws when a backend stands still.
func pauses(r *rand.Rand, long, least, most, until time.Duration) []Span {
	var all []Span
	at := time.Duration(r.Int64N(int64(most)))
	for at < until {
		all = append(all, Span{at, at + long})
		at += long + least + time.Duration(r.Int64N(int64(most-least)))
	}
	return all
}

// Trouble returns when the trouble of E2, E3, R1 and R2 begins with a seed.
func Trouble(seed uint64) time.Duration { return onset(rand.New(rand.NewPCG(seed, 1))) }

// E1 is Finagle's own experiment: one of eleven is slower, by this factor, for
// half of the time.
func E1(id string, clients int, factor float64) *Scenario {
	return &Scenario{
		ID: id, Title: "one of 11 backends slower from 15 s to 45 s",
		Clients: clients, Rate: 1000, Duration: 60 * s1, To: 60 * s1, Timeout: 60 * s1,
		Backends: func(*rand.Rand) []*Backend { return alike(11, 0, slowBetween(0, factor, 15*s1, 45*s1)) },
		Work:     traced,
	}
}

// broken is the fleet and the load of E2, E3, R1 and R2.
func broken(id, title string, seed uint64, window time.Duration, breakIt func(b *Backend, at time.Duration)) *Scenario {
	at := Trouble(seed)
	return &Scenario{
		ID: id, Title: title,
		Clients: 20, Rate: 4000, Duration: at + window + s1, From: at, To: at + window, Timeout: s1,
		Backends: func(*rand.Rand) []*Backend {
			return alike(10, 16, func(i int, b *Backend) {
				if i == 0 {
					breakIt(b, at)
				}
			})
		},
		Work: work(10 * ms),
	}
}

// E2 is a backend that fails at once for 50 s.
func E2(seed uint64) *Scenario {
	return broken("E2", "one of 10 backends answers UNAVAILABLE in 1 ms for 50 s", seed, 50*s1, func(b *Backend, at time.Duration) {
		b.Fails = []Span{{at, at + 50*s1}}
	})
}

// E3 is a backend that does not answer for 50 s.
func E3(seed uint64) *Scenario {
	return broken("E3", "one of 10 backends stops answering for 50 s", seed, 50*s1, func(b *Backend, at time.Duration) {
		b.Holes = []Span{{at, at + 50*s1}}
	})
}

// R1 is the recovery from ten seconds of E2.
func R1(seed uint64) *Scenario {
	return broken("R1", "one of 10 backends fails for 10 s, then is healthy", seed, 30*s1, func(b *Backend, at time.Duration) {
		b.Fails = []Span{{at, at + 10*s1}}
	})
}

// R2 is a backend that fails for a tenth of a second, once.
func R2(seed uint64) *Scenario {
	return broken("R2", "all calls to one of 10 backends fail for 100 ms, once", seed, 10*s1, func(b *Backend, at time.Duration) {
		b.Fails = []Span{{at, at + 100*ms}}
	})
}

// E4 is a fleet whose halves differ by a factor of two.
func E4(id string, backends, clients int, rate float64, duration, from time.Duration) *Scenario {
	return &Scenario{
		ID: id, Title: "half of the backends twice as slow",
		Clients: clients, Rate: rate, Duration: duration, From: from, To: duration, Timeout: s1,
		Backends: func(*rand.Rand) []*Backend {
			return alike(backends, 4, func(i int, b *Backend) {
				if i >= backends/2 {
					b.Slow = func(time.Duration) float64 { return 2 }
				}
			})
		},
		Work: work(5 * ms),
	}
}

// E7 is a fleet whose backends pause for 200 ms now and then.
func E7(id string, workers int, rate float64) *Scenario {
	const duration = 20 * s1
	return &Scenario{
		ID: id, Title: "20 backends pause for 200 ms every 5 to 10 s",
		Clients: 20, Rate: rate, Duration: duration, To: duration, Timeout: s1,
		Backends: func(r *rand.Rand) []*Backend {
			return alike(20, workers, func(_ int, b *Backend) { b.Pauses = pauses(r, 200*ms, 5*s1, 10*s1, duration) })
		},
		Work: work(5 * ms),
	}
}

// E9 is a backend that joins cold: five times slower at first, easing over
// 10 s as in Finagle's benchmark. joins false is the same without it.
func E9(joins bool) *Scenario {
	const at, workers = 20 * s1, 8
	named := func(now time.Duration) []int {
		all := []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
		if joins && now >= at {
			all = append(all, 9)
		}
		return all
	}
	id := "E9"
	if !joins {
		id = "E9-nine"
	}
	return &Scenario{
		ID: id, Title: "a tenth backend joins nine, 5x slower at first",
		Clients: 20, Rate: 0.6 * 9 * workers * 100, Duration: 40 * s1, From: at, To: at + 10*s1, Timeout: s1,
		Backends: func(*rand.Rand) []*Backend {
			return alike(10, workers, func(i int, b *Backend) {
				if i == 9 {
					b.Slow = func(now time.Duration) float64 {
						return max(1, min(5, 10/max(now-at, 1).Seconds()))
					}
				}
			})
		},
		Work:    work(10 * ms),
		Named:   named,
		Updates: at,
	}
}

// E11 is a fleet of which two of twenty are replaced every second.
func E11(churn bool, duration time.Duration) *Scenario {
	const backends, workers = 20, 8
	s := &Scenario{
		ID: "E11", Title: "two of 20 backends replaced every second",
		Clients: 20, Rate: 0.6 * backends * workers * 100, Duration: duration, From: s1, To: duration, Timeout: s1,
		Backends: func(*rand.Rand) []*Backend { return alike(2*backends, workers) },
		Work:     work(10 * ms),
		Named: func(at time.Duration) []int {
			all := make([]int, backends)
			for i := range all {
				all[i] = (i + 2*int(at/s1)) % (2 * backends)
			}
			return all
		},
		Updates: s1,
	}
	if !churn {
		s.ID, s.Updates = "E11-calm", 0
	}
	return s
}

// E13 is a healthy fleet whose answers and callers look unwell.
func E13() *Scenario {
	return &Scenario{
		ID: "E13", Title: "healthy: half of the answers NOT_FOUND, a fifth of the calls cancelled",
		Clients: 20, Rate: 4000, Duration: 25 * s1, To: 25 * s1, Timeout: s1,
		Backends: func(*rand.Rand) []*Backend { return alike(10, 16) },
		Work: func(r *rand.Rand) Work {
			w := work(10 * ms)(r)
			w.NotFound = r.IntN(2) == 0
			if r.IntN(5) == 0 {
				w.Cancel = 5 * ms
			}
			return w
		},
	}
}

// E14 is a healthy fleet whose latencies vary widely: two methods, or one with
// a long tail.
func E14(id string) *Scenario {
	s := &Scenario{
		ID: id, Title: "healthy: wide latencies",
		Clients: 20, Rate: 1000, Duration: 60 * s1, To: 60 * s1, Timeout: 10 * s1,
		Backends: func(*rand.Rand) []*Backend { return alike(10, 64) },
	}
	s.Work = func(r *rand.Rand) Work {
		if r.IntN(2) == 0 {
			return Work{Method: "A", Service: logNormal(r, 2*ms, spread)}
		}
		return Work{Method: "B", Service: logNormal(r, 200*ms, spread)}
	}
	if id == "E14-tail" {
		const median = 10 * ms
		s.Work = func(r *rand.Rand) Work {
			return Work{Method: "A", Service: logNormal(r, time.Duration(1.6487*float64(median)), 1)}
		}
	}
	return s
}
