package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strings"
)

// A target is a bound that Turret must meet.
type target struct {
	what  string
	needs []need
	why   string // it is missed, where it is
}

// A need is one figure of a target and its bound.
type need struct {
	of      string // which figure, where there are several
	value   func(f *figures) summary
	most    float64
	unit    string
	exactly bool // allocations: what else the process allocates is rounded away
}

// figures finds figures, and keeps what it did not find.
type figures struct {
	of      *results
	missing []string
}

func (f *figures) row(comparison, name string) *row {
	if c := f.of.comparison(comparison); c != nil {
		if r := c.row(name); r != nil {
			return r
		}
	}
	f.missing = append(f.missing, fmt.Sprintf("%s, row %q", comparison, name))
	return &row{}
}

func ns(of, comparison, name string, most float64) need {
	return need{of: of, most: most, unit: " ns", value: func(f *figures) summary { return summarize(f.row(comparison, name).cpu) }}
}

// over is how much more name costs than base, divided by n.
func over(of, comparison, name, base string, n, most float64) need {
	return need{of: of, most: most, unit: " ns", value: func(f *figures) summary {
		return summarize(f.row(comparison, name).differences(f.row(comparison, base))).divided(n)
	}}
}

func times(of, comparison, name, base string, most float64) need {
	return need{of: of, most: most, unit: "×", value: func(f *figures) summary {
		return summarize(f.row(comparison, name).ratios(f.row(comparison, base)))
	}}
}

func allocations(of, comparison, name string, most float64) need {
	return need{of: of, most: most, unit: " allocs", exactly: true, value: func(f *figures) summary { return summarize(f.row(comparison, name).allocs) }}
}

// more is how many allocations name has more than base.
func more(of, comparison, name, base string, most float64) need {
	return need{of: of, most: most, unit: " allocs", exactly: true, value: func(f *figures) summary {
		return summarize(pairs(f.row(comparison, name).allocs, f.row(comparison, base).allocs, func(a, b float64) float64 { return a - b }))
	}}
}

func size(of, comparison, name string, most float64) need {
	return need{of: of, most: most, unit: " B", exactly: true, value: func(f *figures) summary { return summarize(f.row(comparison, name).bytes) }}
}

const (
	nothing = "Turret: a layer that does nothing"
	five    = "Turret: five layers"
	gate    = "Turret: a gate"

	emptyStream = "Stream/empty_stream,_one_processor"
	seen        = "Seen/without_a_connection"
)

// record is why a layer that repeats RPCs allocates once more here than its test
// allows it to.
const record = "One allocation is the record of the endpoints that were tried, which is made in programs that link package balance. These benchmarks link it for the status page; the tests that hold the layer to its allocations do not."

// targets are those that Turret was built to.
var targets = []target{
	{what: "a layer that does nothing, in a stack", needs: []need{
		over("embedded", "Layer", "Turret: 10 layers that embed", "no layer", 10, 3),
		over("by Wrap", "Layer", "Turret: 10 layers by Wrap", "no layer", 10, 6),
		allocations("", "Layer", "Turret: 10 layers by Wrap", 0),
	}},
	{what: "a unary RPC through a stack, before any layer", needs: []need{
		over("client", "UnaryClient/nothing", nothing, "no interceptor", 1, 80),
		allocations("", "UnaryClient/nothing", nothing, 1),
		size("", "UnaryClient/nothing", nothing, 112),
		over("server", "UnaryServer/nothing", nothing, "no interceptor", 1, 80),
		allocations("", "UnaryServer/nothing", nothing, 1),
		size("", "UnaryServer/nothing", nothing, 112),
	}, why: "The one allocation holds the RPC and the leaf of its stack: the invoker, the connection, the reply and the call options, which would be a second allocation otherwise. " +
		"It is not pooled: a layer may hand its context, and the RPC in it, to a goroutine that outlives the call, which would then find another call's RPC. " +
		"The time is mostly that allocation: making, clearing and collecting it; and the collector hardly rests in a process with so small a heap."},
	{what: "concurrency limit, in a stack", needs: []need{
		times("of x/sync", "Gate/concurrency_limit/with_room", "Turret, in a stack", "x/sync: semaphore", 1.3),
		allocations("", "Gate/concurrency_limit/with_room", "Turret, in a stack", 0),
	}},
	{what: "rate limit, in a stack", needs: []need{
		times("of x/time", "Gate/rate_limit/with_a_token", "Turret, in a stack", "x/time: Allow", 1.3),
		allocations("", "Gate/rate_limit/with_a_token", "Turret, in a stack", 0),
	}},
	{what: "retry with a budget that nothing needs", needs: []need{
		over("client, more than a layer that does nothing", "UnaryClient/retry", "Turret", nothing, 1, 60),
		more("", "UnaryClient/retry", "Turret", nothing, 0),
		over("without gRPC", "Retry/not_needed", "Turret, with its budget", "a layer that does nothing", 1, 60),
		more("", "Retry/not_needed", "Turret, with its budget", "a layer that does nothing", 0),
		more("over loopback", "EndToEnd/one_processor", "Turret: Retry, on the client", nothing+", on the client", 2),
	}, why: "Some of it is the budget (\"the budget alone\", in the table of Retry without gRPC): a reading of the clock, to count the call in its part of the window, and the count. The rest is the space for a repetition (the options and the trailer of an attempt), " +
		"which makes the RPC's allocation larger by more than half. A budget that did not look at the clock for each call would be wrong where calls are rare. " + record},
	{what: "recover", needs: []need{over("", "UnaryClient/recover_and_filter", "Turret: recover", nothing, 1, 15), more("", "UnaryClient/recover_and_filter", "Turret: recover", nothing, 0)}},
	{what: "filter", needs: []need{over("", "UnaryClient/recover_and_filter", "Turret: filter", nothing, 1, 15), more("", "UnaryClient/recover_and_filter", "Turret: filter", nothing, 0)}},
	{what: "load shedder in front of a limit", needs: []need{
		over("", "UnaryClient/load_shedder", "Turret: in front of a concurrency limit", "Turret: a layer that does nothing in its place", 1, 15),
		more("", "UnaryClient/load_shedder", "Turret: in front of a concurrency limit", "Turret: a layer that does nothing in its place", 0),
	}},
	{what: "timeout, earlier deadline already set", needs: []need{
		over("client", "UnaryClient/timeout,_earlier_deadline", "Turret", nothing, 1, 40),
		more("", "UnaryClient/timeout,_earlier_deadline", "Turret", nothing, 0),
	}},
	{what: "timeout with a timer", needs: []need{
		times("of context.WithTimeout", "Timeout/no_deadline_yet", "Turret", "context.WithTimeout", 1),
		more("", "Timeout/no_deadline_yet", "Turret", "context.WithTimeout", 0),
	}},
	{what: "timeout > shed > concurrency > rate > retry, client", needs: []need{
		allocations("", "Five/with_a_timer", five, 6),
		times("of failsafegrpc's five", "Five/with_a_timer", five, "failsafegrpc: five policies", 0.2),
	}, why: "Most of it is context.WithTimeout, see its row; failsafe-go's five include one too. The rest is in the next line."},
	{what: "the same without the timer", needs: []need{
		allocations("", "Five/earlier_deadline", five, 1),
		times("of context.WithTimeout (300 ns where that takes 757)", "Five/earlier_deadline", five, "context.WithTimeout", 300.0/757),
	}, why: "Three readings of the clock: Timeout's, to compare the caller's deadline with its own, the rate limit's and the retry budget's. They cannot share one: each layer may wait for any time before it calls the next. " +
		"And one allocation, with space for a repetition. " + record},
	{what: "a refusal through one gate", needs: []need{
		ns("", "Refusal/with_a_status", gate, 500), allocations("", "Refusal/with_a_status", gate, 6),
		ns("with RetryInfo", "Refusal/with_RetryInfo", gate, 1000), allocations("", "Refusal/with_RetryInfo", gate, 12),
		ns("rate limit", "Refusal/with_RetryInfo", "Turret: rate limit", 1000), allocations("", "Refusal/with_RetryInfo", "Turret: rate limit", 12),
	}, why: "More than half of a refusal with RetryInfo is gRPC's status.WithDetails (its row is in the table of refusals), which copies the status and marshals the detail; there is no way to a status that spares the copy. " +
		"The delay differs from refusal to refusal, so it cannot be made before."},
	{what: "five layers on both sides, end to end", needs: []need{
		times("one processor, of bare", "EndToEnd/one_processor", five, "bare", 1.05), more("", "EndToEnd/one_processor", five, "bare", 15),
		times("all processors", "EndToEnd/all_processors", five, "bare", 1.05), more("", "EndToEnd/all_processors", five, "bare", 15),
	}, why: "The stacks alone cost what the tables of five layers and of the server say, a few hundredths of an RPC. The rest is the difference between one pair of connections and another, and on several processors the luck of wake-ups: see the rows that are bare again."},
	{what: "a client stream, without Retry", needs: []need{
		times("one layer, of bare", emptyStream, nothing, "bare", 1.1), more("", emptyStream, nothing, "bare", 6),
		times("four layers", emptyStream, "Turret: four layers, on the client", "bare", 1.1), more("", emptyStream, "Turret: four layers, on the client", "bare", 6),
		times("one layer, all processors", "Stream/empty_stream,_all_processors", nothing, "bare", 1.1),
		more("message", "Stream/message_there_and_back", nothing, "bare", 0),
		over("its Send and Recv", "Stream/SendMsg_and_RecvMsg,_without_a_connection", nothing, "bare", 2, 10),
	}, why: "The stack of a stream runs in a goroutine of its own until the stream is over (decision 0003), so each stream pays for starting it and for handing over to it when it opens and when it ends. Messages pay nothing."},
	{what: "the same with Retry", needs: []need{
		more("more than without", emptyStream, "Turret: Retry", nothing, 10),
		more("message", "Stream/message_there_and_back", "Turret: Retry", nothing, 0),
		over("its Send and Recv, more than without", "Stream/SendMsg_and_RecvMsg,_without_a_connection", "Turret: Retry", nothing, 2, 1),
	}},
	{what: "a server stream", needs: []need{
		more("", emptyStream, "Turret: a layer that does nothing, on the server", "bare", 3),
		more("message", "Stream/message_there_and_back", "Turret: a layer that does nothing, on the server", "bare", 0),
	}},
	{what: "trace layer, a side, beside a layer that does nothing", needs: []need{
		more("no-op provider, client", "Trace/no-op_provider,_without_a_connection", "Turret, on the client", nothing+", on the client", 10),
		more("server", "Trace/no-op_provider,_without_a_connection", "Turret, on the server", nothing+", on the server", 10),
		more("not sampled, client", "Trace/not_sampled,_without_a_connection", "Turret, on the client", nothing+", on the client", 10),
		more("server", "Trace/not_sampled,_without_a_connection", "Turret, on the server", nothing+", on the server", 10),
	}, why: "An SDK that samples nothing still makes a span with an identity, which is propagated."},
	{what: "metrics, with the SDK of OpenTelemetry", needs: []need{
		more("more than a layer that does nothing", seen, "Turret: Metrics", nothing, 0),
		times("of otelgrpc's handler", seen, "Turret: Metrics", "otelgrpc", 0.12),
		times("both sides, of bare", "Seen/both_sides", "Turret: Metrics", "bare", 1.08),
	}, why: "A third of it is the stack that carries the layer, paid once for all layers. Of the layer itself more than half is the SDK, which looks for the series of each value by its attributes, and most of the rest are two readings of the clock. The stack and one recording (\"OpenTelemetry: Record alone\"), without a clock, are nearly as much as the target."},
	{what: "Observe, an RPC that succeeds", needs: []need{
		more("more than a layer that does nothing", seen, "Turret: Observe", nothing, 1),
		more("with Log", seen, "Turret: Observe with Log", nothing, 1),
	}},
	{what: "describing a stack of five layers", needs: []need{allocations("", "Seen/describe_a_stack_of_five_layers", "Turret: Describe", 50)}, why: "A description has a node for each layer, and the attributes of each: five layers with limits have more of them than the target allowed for."},
	{what: "hedge that never fires", needs: []need{allocations("", "UnaryClient/hedge", "Turret, fixed delay", 6), allocations("quantile", "UnaryClient/hedge", "Turret, quantile", 6)}, why: record},
	{what: "balance: a pick and its end", needs: []need{
		ns("10 endpoints", "Pick/n=10", "Turret: P2C", 150), ns("1,000", "Pick/n=1000", "Turret: P2C", 150), ns("10,000", "Pick/n=10000", "Turret: P2C", 150),
		allocations("", "Pick/n=1000", "Turret: P2C", 1),
	}, why: "A pick compares two endpoints: two draws, their loads, which decay with time, and whether they are banned, all in atomics; and it reads the clock twice, at its start and at its end. " +
		"Of thousands of endpoints the two are in no cache, which a policy that takes them in order does not notice."},
	{what: "balance: 1,000 endpoints become ready", needs: []need{
		times("of round_robin", "Ready/endpointsharding", "Turret: P2C", "gRPC: round_robin", 1.1),
	}, why: "For each picker the policy looks up its endpoints, beyond what endpointsharding does."},
}

// missing returns what targets and sections need and r does not have.
func (r *results) missing() []string {
	f := &figures{of: r}
	for _, t := range targets {
		for _, n := range t.needs {
			n.value(f)
		}
	}
	for _, s := range sections {
		if found, _ := s.of(r); len(found) == 0 {
			f.missing = append(f.missing, s.benchmark)
		}
	}
	return f.missing
}

// judge writes which targets are met, as far as r has their figures. One that is
// missed, but not if the median is where its interval begins, is called that.
func judge(w io.Writer, r *results) {
	var rows [][]string
	var reasons []string
	for _, t := range targets {
		var got []string
		f, met, clearly := &figures{of: r}, true, false
		for _, n := range t.needs {
			value := n.value(f)
			text, ok := n.judged(value)
			got, met = append(got, text), met && ok
			clearly = clearly || !ok && (n.exactly || !(value.Lo <= n.most))
		}
		if len(f.missing) > 0 {
			continue
		}
		verdict := "met"
		if !met {
			verdict = "**missed**"
			if !clearly {
				verdict = "missed, within the spread"
			}
			reasons = append(reasons, fmt.Sprintf("- *%s*: %s", t.what, cmp.Or(t.why, "not clearly; the machine was busy.")))
		}
		rows = append(rows, []string{t.what, verdict, strings.Join(got, "; ")})
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## Targets\n\n")
	table(w, 3, []string{"", "", "figure (and bound)"}, rows)
	if len(reasons) > 0 {
		fmt.Fprintf(w, "\nWhy those that are missed are:\n\n%s\n", strings.Join(reasons, "\n"))
	}
}

// judged returns a figure with its interval and its bound, and whether it is
// within the bound.
func (n need) judged(value summary) (text string, met bool) {
	if n.exactly {
		value.Center = math.Round(value.Center) + 0 // no -0
		text = fmt.Sprintf("%.0f%s (≤ %.0f)", value.Center, n.unit, n.most)
	} else {
		text = fmt.Sprintf("%s%s%s (≤ %s)", digits(value.Center), n.unit, value.interval(), digits(n.most))
	}
	if n.of != "" {
		text = n.of + " " + text
	}
	if met = value.Center <= n.most; !met {
		text = "**" + text + "**"
	}
	return text, met
}
