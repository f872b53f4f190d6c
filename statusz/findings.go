package statusz

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/turret-go/turret"
)

// The ranks of findings: what should be looked at first comes first.
const (
	rankNowhere = iota // no endpoint
	rankBanned
	rankOpen
	rankSpent
	rankFull
	rankRefuses
	rankFault
	rankDrain
	rankLost // something is not seen
	rankStood
)

// find adds a finding.
func (l *look) find(rank int, where, what, turn string) {
	l.findings = append(l.findings, Finding{Where: where, What: what, Turn: turn, rank: rank})
}

// judge adds what is wrong with one node.
func (l *look) judge(p *Part, key, where string, n *turret.Node, f figures) {
	l.describes(where, n, f)
	refuses := ""
	if p.Refused > 0 {
		refuses = fmt.Sprintf("refuses %s/s%s", num(p.Refused), l.reasons(key, n))
	}
	rank, what, turn := wrong(n.Kind, p, f)
	if what == "" && refuses != "" {
		rank, what, refuses, turn = rankRefuses, refuses, "", adviceFor(l.reason(key, n))
	}
	if what != "" {
		if refuses != "" {
			what += ", " + refuses
		}
		l.find(rank, where, what, turn)
	}
	if n.Kind == "breaker" {
		l.state(key, where, p.State, fmt.Sprintf("%s of %s calls failed", num(f.value("failures")), num(f.value("calls"))), p.State == "open")
	}
}

// wrong returns what is wrong with a mechanism by its own figures; what is empty
// if nothing is.
func wrong(kind string, p *Part, f figures) (rank int, what, turn string) {
	state := f.text("state")
	switch {
	case kind == "breaker" && state != "closed" && state != "":
		return rankOpen, "is " + words(state) + after(f.value("open_for")),
			"What it calls fails. Look at that first; the breaker lets a probe through by itself."
	case kind == "retry_budget" && f.has("left") && (f.value("left") < 1 || p.Refused > 0):
		return rankSpent, fmt.Sprintf("is spent: %s retries for %s calls", num(f.value("retries")), num(f.value("calls"))),
			"Too much fails for retries to help. Look at what they follow; a greater Ratio sends more load to servers in trouble."
	case strings.HasSuffix(kind, "limit") || kind == "adaptive" || kind == "buffer":
		return limitWrong(kind, p, f)
	case kind == "throttle" && f.value("probability") >= 0.01:
		return rankRefuses, fmt.Sprintf("keeps %s %% of calls from being sent", num(100*f.value("probability"))),
			"The server refuses this caller. Send less, or give the server room."
	case strings.HasPrefix(kind, "fault") && state != "" && state != "off":
		return rankFault, "injects faults: " + words(state) + after(f.value("left")),
			"Somebody wanted this. Clear the injector if it was forgotten; it ends by itself."
	case strings.HasPrefix(kind, "drain") && drains(cmp.Or(state, f.text("phase"))):
		return rankDrain, "is shutting down: " + words(cmp.Or(state, f.text("phase"))),
			"Wait for it. Calls that are cut short are counted in its report."
	}
	return 0, "", ""
}

// drains reports whether a phase of package drain is one of the end.
func drains(phase string) bool { return phase != "" && phase != "serving" }

func limitWrong(kind string, p *Part, f figures) (rank int, what, turn string) {
	if engine := f.text("engine"); engine != "" && engine != "up" && engine != "there" && engine != "ok" {
		return rankFault, "has no engine: " + words(engine), "Look at the engine of the shared limit; until it is back its stand-in decides."
	}
	waiting := ""
	if n := f.value("waiting"); n > 0 {
		waiting = fmt.Sprintf(", %s in line", num(n))
	}
	switch {
	case kind == "buffer" && f.value("max") > 0 && f.value("waiting") >= f.value("max"):
		return rankFull, fmt.Sprintf("is full: %s in line", num(f.value("waiting"))),
			"What is behind it is slower than its callers. Shed load before it, or make that faster."
	case kind == "buffer" || kind == "rate_limit" || kind == "shared_limit":
		return 0, "", ""
	case p.Max > 0 && p.Used >= p.Max:
		return rankFull, fmt.Sprintf("is full: %s of %s in flight%s", num(p.Used), num(p.Max), waiting),
			"If the process has CPU and memory to spare raise the limit (SetMax); if not add servers, or find what became slow."
	}
	return 0, "", ""
}

// after returns how long something lasts yet, in words.
func after(left float64) string {
	if left <= 0 {
		return ""
	}
	return ", " + seconds(left) + " left"
}

// describes adds a finding if a node does not tell all of itself.
func (l *look) describes(where string, n *turret.Node, f figures) {
	if problem := f.text("description"); problem != "" {
		l.find(rankLost, cmp.Or(where, n.Kind), "is not seen: "+problem, "Its figures are missing on this page, nothing else. Its Describe method is at fault.")
	}
}

// judgeChannel adds what is wrong with the endpoints of a channel.
func (l *look) judgeChannel(c *Channel, f figures) {
	if f.has("endpoints_in_use") && c.InUse == 0 {
		l.find(rankNowhere, c.Name, fmt.Sprintf("has no endpoint in use, of %d", c.Known),
			"Calls fail or go to banned endpoints. See why below; look at name resolution if there is none.")
	}
	for _, e := range c.Endpoints {
		switch e.State {
		case "banned":
			l.find(rankBanned, e.Name, "is banned"+because(e.Why),
				"Look at that server. The others carry its share; it is tried again when the ban ends.")
		case "on_trial":
			l.find(rankBanned, e.Name, "is on trial after a ban"+because(e.Why),
				"Look at that server. One call at a time tries it, until one succeeds.")
		case "unreachable":
			l.find(rankBanned, e.Name, "cannot be reached",
				"No connection to it. Look whether that server is up, and at the network; it is dialled again by itself.")
		}
	}
}

func because(why string) string {
	if why == "" {
		return ""
	}
	return ": " + why
}

// reasons returns why a node refuses now, the most frequent reason first.
func (l *look) reasons(key string, n *turret.Node) string {
	names := l.ranked(key, n)
	if len(names) == 0 {
		return ""
	}
	return " (" + strings.Join(names[:min(len(names), 3)], ", ") + ")"
}

// reason returns the reason that a node refuses most for now.
func (l *look) reason(key string, n *turret.Node) string {
	if names := l.ranked(key, n); len(names) > 0 {
		return names[0]
	}
	return ""
}

func (l *look) ranked(key string, n *turret.Node) []string {
	type one struct {
		reason string
		rate   float64
	}
	var all []one
	for _, f := range n.Figures {
		if f.Kind != turret.Counter || eventNames[f.Name] != "refused" || f.Reason == "" {
			continue
		}
		if s := l.history.all[key+"#"+f.Name+"#"+f.Reason]; s != nil && len(s.ring) > 0 && s.at(0) > 0 {
			all = append(all, one{f.Reason, s.at(0)})
		}
	}
	slices.SortStableFunc(all, func(a, b one) int { return cmp.Compare(b.rate, a.rate) })
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].reason
	}
	return names
}

// advice is what to turn, by the reason of refusals.
var advice = map[string]string{
	turret.ReasonLimitFull:    "More calls at once than the limit. Raise it if the process has room; a short line takes bursts.",
	turret.ReasonQueueFull:    "The line in front of the limit is full. Raise the limit if the process has room, not the line: a longer one only adds waiting.",
	turret.ReasonQueueTimeout: "Calls wait in line longer than they may. Raise the limit if the process has room, or add servers.",
	turret.ReasonRateLimited:  "Callers send more than the rate. Raise the rate or the burst if that is wanted load; else find the caller.",
	turret.ReasonOverloaded:   "What is behind it is full. See the layer below it.",
	turret.ReasonCircuitOpen:  "The breaker is open: what it calls fails. Look at that first.",
	turret.ReasonBufferFull:   "What is behind the buffer is slower than its callers.",
	turret.ReasonBufferClosed: "The buffer was closed. Calls still reach it: look at the order of shutdown.",
	"THROTTLED":               "The server refuses this caller. Send less, or give the server room.",
	"BELOW_THRESHOLD":         "The server admits only what is more critical now. Give it room, or mark what matters.",
	"DEADLINE_NEAR":           "Calls would end before their turn. Callers' deadlines are too short, or the line is too slow.",
	"DRAINING":                "The server shuts down. Callers should go elsewhere.",
}

func adviceFor(reason string) string {
	if known := advice[reason]; known != "" {
		return known
	}
	return "Look at the layer's settings, and at what is inside it."
}

// stood adds that the process stood still lately.
func (l *look) stood(still time.Duration) {
	if still >= stoodStill {
		l.find(rankStood, "this process", "stood still for "+seconds(still.Seconds())+" in the last minute",
			"Its CPU quota, a long pause of the garbage collector, or the machine. Servers look slow meanwhile, and may be banned for it.")
	}
}

// rank puts the findings in order into the View.
func (l *look) rank() {
	slices.SortStableFunc(l.findings, func(a, b Finding) int { return cmp.Compare(a.rank, b.rank) })
	listed := min(len(l.findings), mostFindings)
	l.view.Findings = append([]Finding{}, l.findings[:listed]...)
	l.view.MoreFindings = len(l.findings) - listed
}
