package balance

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/circuit"
	"github.com/turret-go/turret/internal/latency"
	"github.com/turret-go/turret/load"
	"github.com/turret-go/turret/retry"
)

// Name is the name of the policy in a service config. Importing this package
// registers it.
const Name = "turret.P2C"

// Config is the configuration of the policy. The zero value is the default, and
// is what the measurements in doc/balancing.md were made with. It is written in
// a service config with the names of the fields in lower camel case and
// durations as strings of seconds:
//
//	{"loadBalancingConfig": [{"turret.P2C": {"limit": 100, "slowStart": "30s"}}]}
//
// Unknown names and values out of bounds are errors that name the field.
type Config struct {
	// Load is how endpoints are compared. "" means [LoadEWMA].
	Load LoadKind
	// Decay is the time in which the weight of a measured latency falls to 1/e.
	// 0 means the default of the tracker: 800 ms for LoadEWMA, 10 s for
	// LoadPeakEWMA. At least 1 µs.
	Decay time.Duration
	// DefaultRTT is what endpoints are taken for while none of them has
	// answered yet. 0 means 30 ms; not negative.
	DefaultRTT time.Duration
	// Penalty is the latency that a failure stands for, at least. 0 means the
	// default of the tracker: ten typical calls for LoadEWMA, 5 s for
	// LoadPeakEWMA. Negative: none.
	Penalty time.Duration
	// Choices is how many different endpoints are compared for each call. 0
	// means 2; at most 10. More of them find the best endpoint of the moment
	// more often, and so do all other clients.
	Choices int

	// Limit is how many calls, streams included, may be in flight to one
	// endpoint. 0 means no limit; not negative.
	Limit int
	// OnFull says what becomes of a call when no endpoint that was looked at
	// has room. "" means [Refuse].
	OnFull Recourse

	// Failures says when failures ban an endpoint.
	Failures Failures
	// Outliers says when latency bans an endpoint.
	Outliers Outliers
	// MaxBanned is the share of the endpoints that may be banned at a time. 0
	// means 0.5; at most 1. Negative: none is banned. When more of them fail,
	// the fault is most likely the client's. With [FailOver] it bounds what latency
	// bans; failures may ban all, and it must not be negative.
	MaxBanned float64
	// OnBanned says what becomes of a call when all endpoints that were looked
	// at are banned. "" means [Use]: to send it to one of them, which is known
	// as panic mode. [FailOver] also reports TRANSIENT_FAILURE while all connected
	// endpoints are banned, so that a priority policy above this one uses the
	// next priority.
	OnBanned Recourse

	// SlowStart is how long an endpoint that is new, or connected anew, has to
	// get warm: its load counts up to ten times at first, and less as the time
	// goes by. 0 means 2 s. Negative: none.
	SlowStart time.Duration

	// IgnoreAlarms leaves out what endpoints say of themselves. By default the
	// policy opens one stream of turret.load.v1.Load/Watch on each connection, on
	// which a server with an alarm (package load/alarm) says that it is sick. A
	// latency that a server reports then counts like a measured one, if it is out of
	// the ordinary for all endpoints together. Behind a proxy that balances over
	// servers itself the alarm would be that of one of them: ignore it there. A
	// change opens and closes no stream of a connection that is there.
	IgnoreAlarms bool
	// Subset bounds how many endpoints the policy connects to. A [Balancer] and a
	// [ClientConn] take no notice of it.
	Subset Subset

	// Classifier is the name of a function that says how calls went, which
	// [RegisterClassifier] was given. "" means [interceptors.Classify]. A name that
	// is not registered is an error. A [Balancer] has a parameter for it and takes
	// no notice of this field.
	Classifier string

	// Seed makes the random choices repeatable, for experiments. 0 means to
	// choose differently each time, which is what clients should do.
	Seed uint64
}

// LoadKind is a way to compare endpoints.
type LoadKind string

// The kinds of load.
const (
	// LoadEWMA compares latency, with a short memory, and what is in flight:
	// [load.EWMA].
	LoadEWMA LoadKind = "ewma"
	// LoadPeakEWMA is the measure of Finagle and Tower: [load.PeakEWMA].
	LoadPeakEWMA LoadKind = "peak_ewma"
	// LoadPending compares what is in flight only: [load.Pending].
	LoadPending LoadKind = "pending"
)

// A Recourse is what to do when no endpoint is fit for a call.
type Recourse string

// The recourses.
const (
	// Refuse ends the call with a [turret.Refusal] that has a status. gRPC's own
	// retry does not try it again, and wait-for-ready does not wait.
	Refuse Recourse = "refuse"
	// Use sends the call to the least loaded of the endpoints all the same.
	Use Recourse = "use"
	// FailOver, of Config.OnBanned only, is Use, and makes the policy report
	// TRANSIENT_FAILURE while every connected endpoint is banned: a parent that
	// knows other endpoints (priorities and localities of xDS) sends the calls
	// there. After a ban of the endpoints together, with the durations of
	// [Failures], the policy reports READY again and lets one call through; the
	// others wait until that one has ended, a second at most. Three failures in a
	// row, or six where calls to all endpoints fail, ban an endpoint, and failures
	// may ban all. A [Balancer] and a [ClientConn], which have no parent, take it
	// for Use.
	FailOver Recourse = "fail_over"
)

// Failures says when failures ban an endpoint, and for how long: a
// circuit breaker for each endpoint. When a ban is over, one call is sent to
// the endpoint as a probe.
type Failures struct {
	// Consecutive is how many failures in a row ban: so many, or more where calls
	// to the other endpoints fail as well, until chance would bring such a row
	// once in 100,000 calls. 0 means 3. Negative: a row does not ban.
	Consecutive int
	// Ratio is the share of failures among the calls of the last Window that
	// bans, as long as all endpoints together fail less than half as often. 0
	// means 0.5; at most 1. Negative: no share bans.
	Ratio float64
	// MinCalls is how many calls the Window must hold. 0 means 20.
	MinCalls int
	// Window is how far back calls count. 0 means 10 s.
	Window time.Duration
	// BanFor is how long the first ban lasts, less up to a quarter that is left
	// to chance; it doubles with each probe that fails. 0 means 2.5 s; not
	// negative.
	BanFor time.Duration
	// MaxBanFor bounds the doubling. 0 means a minute, or BanFor if that is
	// longer; not shorter than BanFor.
	MaxBanFor time.Duration
}

// Outliers says when latency bans an endpoint: when calls in a row take longer
// than a call to this fleet does in all but one of some 10,000 cases, and at
// least twice as long as a typical one. The load alone sends
// fewer calls to such an endpoint. The ban sends next to none, which decides
// about the slowest call of a thousand.
type Outliers struct {
	// Consecutive is how many outliers in a row ban. 0 means 3. Negative:
	// latency bans no endpoint.
	Consecutive int
	// BanFor is how long the first ban lasts, less up to a quarter that is left
	// to chance; it doubles with each probe that is an outlier. 0 means 250 ms,
	// so that a pause costs little; not negative.
	BanFor time.Duration
	// MaxBanFor bounds the doubling. 0 means 16 s, or BanFor if that is longer;
	// not shorter than BanFor.
	MaxBanFor time.Duration
}

// Defaults of [Config].
const (
	defaultChoices   = 2
	maxChoices       = 10
	defaultMaxBanned = 0.5
	defaultSlowStart = 2 * time.Second

	defaultFailures   = 3
	defaultRatio      = 0.5
	defaultFailureBan = 2500 * time.Millisecond
	maxFailureBan     = time.Minute

	defaultOutliers   = 3
	defaultOutlierBan = 250 * time.Millisecond
	maxOutlierBan     = 16 * time.Second
)

// Validate returns a [turret.FieldError] if c cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Load != "" && c.Load != LoadEWMA && c.Load != LoadPeakEWMA && c.Load != LoadPending:
		return invalid("Load", c.Load, fmt.Sprintf("%q, %q or %q", LoadEWMA, LoadPeakEWMA, LoadPending))
	case c.Decay != 0 && c.Decay < time.Microsecond:
		return invalid("Decay", c.Decay, "at least 1µs (0 means the default)")
	case c.DefaultRTT < 0:
		return invalid("DefaultRTT", c.DefaultRTT, "at least 0")
	case c.Choices != 0 && (c.Choices < 2 || c.Choices > maxChoices):
		return invalid("Choices", c.Choices, fmt.Sprintf("between 2 and %d (0 means %d)", maxChoices, defaultChoices))
	case c.Limit < 0:
		return invalid("Limit", c.Limit, "at least 0 (0 means none)")
	case math.IsNaN(c.MaxBanned) || c.MaxBanned > 1:
		return invalid("MaxBanned", c.MaxBanned, fmt.Sprintf("at most 1 (0 means %v, negative none)", defaultMaxBanned))
	case c.Classifier != "" && classifierOf(c.Classifier) == nil:
		return invalid("Classifier", c.Classifier, "a name that RegisterClassifier was given")
	case c.SlowStart > math.MaxInt64/2:
		return invalid("SlowStart", c.SlowStart, fmt.Sprintf("at most %v", time.Duration(math.MaxInt64/2)))
	}
	if err := c.OnFull.validate("OnFull", Refuse, Use); err != nil {
		return err
	}
	if err := c.OnBanned.validate("OnBanned", Refuse, Use, FailOver); err != nil {
		return err
	}
	if c.OnBanned == FailOver && c.MaxBanned < 0 {
		return invalid("MaxBanned", c.MaxBanned, fmt.Sprintf("at least 0 where OnBanned is %q", FailOver))
	}
	if err := c.Subset.validate(); err != nil {
		return err
	}
	if err := checkBan("Failures", c.Failures.BanFor, c.Failures.MaxBanFor); err != nil {
		return err
	}
	if err := checkBan("Outliers", c.Outliers.BanFor, c.Outliers.MaxBanFor); err != nil {
		return err
	}
	return turret.FieldOf("balance", "Failures", c.Failures.circuit().Validate("balance"))
}

// invalid returns the error of a field that has a value out of its bound.
func invalid(field string, value any, bound string) error {
	return &turret.FieldError{Package: "balance", Field: field, Value: value, Bound: bound}
}

func (r Recourse) validate(field string, known ...Recourse) error {
	if r == "" || slices.Contains(known, r) {
		return nil
	}
	return invalid(field, r, fmt.Sprintf("one of %q", known))
}

// checkBan checks the two durations of a ban. field is the name of their struct.
func checkBan(field string, first, longest time.Duration) error {
	switch {
	case first < 0:
		return invalid(field+".BanFor", first, "at least 0")
	case longest < 0:
		return invalid(field+".MaxBanFor", longest, "at least 0")
	case longest > 0 && longest < first:
		return invalid(field+".MaxBanFor", longest, fmt.Sprintf("at least BanFor (%v)", first))
	}
	return nil
}

// circuit returns the configuration of an endpoint's circuit for failures.
func (f Failures) circuit() circuit.Config {
	return circuit.Config{
		Consecutive: cmp.Or(f.Consecutive, defaultFailures),
		Ratio:       cmp.Or(f.Ratio, defaultRatio), MinCalls: f.MinCalls, Window: f.Window,
		Backoff: ban(f.BanFor, f.MaxBanFor, defaultFailureBan, maxFailureBan),
	}
}

// circuit returns the configuration of an endpoint's circuit for latency, whose
// failures are outliers.
func (o Outliers) circuit() circuit.Config {
	return circuit.Config{
		Consecutive: cmp.Or(o.Consecutive, defaultOutliers),
		Ratio:       -1,
		Backoff:     ban(o.BanFor, o.MaxBanFor, defaultOutlierBan, maxOutlierBan),
	}
}

// ban returns the backoff of bans: from first on, doubled up to longest. The jitter is
// that of the circuit, up to a quarter less.
func ban(first, longest, defaultFirst, defaultLongest time.Duration) retry.Backoff {
	if first == 0 {
		first = defaultFirst
		if longest > 0 {
			first = min(first, longest)
		}
	}
	return retry.Backoff{Base: first, Max: cmp.Or(longest, max(defaultLongest, first))}
}

// sameTracker reports whether a tracker of c serves other as well.
func (c *Config) sameTracker(other Config) bool {
	return c.Load == other.Load && c.Decay == other.Decay && c.DefaultRTT == other.DefaultRTT && c.Penalty == other.Penalty
}

// A tracker is one of package load that can be asked what is in flight.
type tracker interface {
	load.StreamTracker
	InFlight() int64
}

// newTracker returns the tracker of one endpoint.
func (c *Config) newTracker(fleet *latency.Fleet) tracker {
	e := load.EWMAConfig{Decay: c.Decay, DefaultRTT: c.DefaultRTT, Penalty: c.Penalty, Typical: fleet.Typical}
	switch c.Load {
	case LoadPending:
		return load.NewPending()
	case LoadPeakEWMA:
		return load.NewPeakEWMA(e)
	default:
		return load.NewEWMA(e)
	}
}

// withDefaults returns c with the zeros that pickers read replaced by what they
// stand for.
func (c Config) withDefaults() Config {
	c.Choices = cmp.Or(c.Choices, defaultChoices)
	c.OnFull = cmp.Or(c.OnFull, Refuse)
	c.OnBanned = cmp.Or(c.OnBanned, Use)
	c.MaxBanned = cmp.Or(c.MaxBanned, defaultMaxBanned)
	c.SlowStart = max(0, cmp.Or(c.SlowStart, defaultSlowStart))
	return c
}
