package adaptive

import (
	"fmt"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/criticality"
)

// Stats is what a [Limit] was doing at one instant, and has done since it was
// made.
type Stats struct {
	Limit    int                     // how many calls may be inside
	InFlight int                     // calls inside; above Limit for a while after a cut
	Waiting  [criticality.Levels]int // calls in line, by criticality.Level.Index
	Hot      bool                    // the newest call in line goes first

	Unloaded   time.Duration // latency of a call that waits for nothing; 0: not known yet
	Latency    time.Duration // mean latency of successes in the last window
	Throughput float64       // successes a second in the last window
	Trials     uint64        // tests of the unloaded latency
	LastTrial  Trial         // the last of them

	Entered   uint64  // calls that were let in
	Full      uint64  // calls of TryEnter that found no room, reason LIMIT_FULL
	Waited    uint64  // calls refused after the longest time in line, reason QUEUE_TIMEOUT
	NoTime    uint64  // calls refused because too little time was left, reason DEADLINE_NEAR
	Cancelled uint64  // calls whose context ended while they were in line
	Threshold float64 // the lowest level worth sending, see Limit.Threshold
	// Utilization is the mean number of calls inside and in line over the last
	// second or half a second, as a part of Limit: above 1 if calls wait.
	Utilization float64
	Recovering  bool // there is a backlog of a time in which the process stood still
}

// Refused is how many calls the limit turned away.
func (s Stats) Refused() uint64 { return s.Full + s.Waited + s.NoTime }

// InLine is how many calls wait, of all levels.
func (s Stats) InLine() int {
	n := 0
	for _, waiting := range s.Waiting {
		n += waiting
	}
	return n
}

// Stats returns a snapshot.
func (l *Limit) Stats() Stats {
	now := l.now()
	l.lock(now)
	defer l.release()
	g := l.gate
	g.filled.advance(now, g.inside+g.line.n)
	s := Stats{
		Limit: g.knee.places(), InFlight: g.inside, Hot: g.line.hot,
		Unloaded: time.Duration(g.knee.unloaded), Latency: time.Duration(g.knee.latency),
		Throughput: g.knee.rate, Trials: g.knee.tried, LastTrial: g.knee.last,
		Entered: g.counts.entered, Full: g.counts.full, Waited: g.counts.tooLong,
		NoTime: g.counts.noTime, Cancelled: g.counts.gaveUp, Recovering: g.pause.recovering,
		Threshold: g.threshold.value,
	}
	s.Utilization = g.filled.of() / float64(max(s.Limit, 1))
	for i := range s.Waiting {
		s.Waiting[i] = g.line.levels[i].n
	}
	return s
}

// Utilization is [Stats].Utilization, for reports to balancers.
func (l *Limit) Utilization() float64 { return l.Stats().Utilization }

// String returns the limit and its [Stats] in one line.
func (l *Limit) String() string {
	s := l.Stats()
	return fmt.Sprintf("adaptive limit: %d of %d in flight, %d waiting, %d entered, %d refused, unloaded latency %v",
		s.InFlight, s.Limit, s.InLine(), s.Entered, s.Refused(), s.Unloaded.Round(time.Microsecond))
}

// Describe says what [Limit.Stats] does.
func (l *Limit) Describe(d *turret.Description) {
	s := l.Stats()
	d.Is("adaptive", "adaptive limit")
	d.Gauge("limit", "{call}", float64(s.Limit))
	d.Gauge("in_flight", "{call}", float64(s.InFlight))
	d.Gauge("waiting", "{call}", float64(s.InLine()))
	for i, n := range s.Waiting {
		level := criticality.CriticalPlus + criticality.Level(i)
		d.Gauge("waiting_"+underscored(level), "{call}", float64(n))
	}
	d.Gauge("utilization", "1", s.Utilization)
	d.State("line", heat(s.Hot))
	d.Gauge("threshold", "1", s.Threshold)
	d.Gauge("unloaded_latency", "s", s.Unloaded.Seconds())
	d.Gauge("latency", "s", s.Latency.Seconds())
	d.Gauge("throughput", "{call}/s", s.Throughput)
	d.State("last_trial", s.LastTrial.Verdict.String())
	d.Gauge("elasticity", "1", s.LastTrial.Elasticity)
	d.Count("trials", "{trial}", "", s.Trials)
	d.Count("entered", "{call}", "", s.Entered)
	d.Count("refused", "{call}", turret.ReasonLimitFull, s.Full)
	d.Count("refused", "{call}", turret.ReasonQueueTimeout, s.Waited)
	d.Count("refused", "{call}", ReasonDeadlineNear, s.NoTime)
	d.Count("cancelled", "{call}", "", s.Cancelled)
}

func heat(hot bool) string {
	if hot {
		return "hot"
	}
	return "cool"
}

// underscored returns the name of l as a part of a metric's name.
func underscored(l criticality.Level) string {
	return map[criticality.Level]string{
		criticality.CriticalPlus: "critical_plus", criticality.Critical: "critical",
		criticality.SheddablePlus: "sheddable_plus", criticality.Sheddable: "sheddable",
	}[l]
}
