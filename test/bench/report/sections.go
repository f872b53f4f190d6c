package main

import (
	"fmt"
	"io"
	"strings"
)

// A section shows the comparisons of one benchmark.
type section struct {
	benchmark string // without Benchmark
	title     string
	text      string
	base      string // what the last column is a multiple of, for people
	growth    *growth
}

// growth is for a benchmark whose comparisons differ in a number: a table and a
// plot of how cost grows with it.
type growth struct {
	of   string // what there is n of
	file string // of the plot
	per  bool   // the cost is divided by n
	y    string // what the cost is of
	logY bool
}

// sections are those of the report, in its order.
var sections = []section{
	{
		benchmark: "Platform", title: "What this machine costs", base: "WithTimeout",
		text: "What layers are made of. Other figures are to be read beside these: on a machine where they are twice as much, so is nearly everything.",
	},
	{
		benchmark: "Layer", title: "Layers that do nothing", base: "embedding",
		text: "Ten of them, without gRPC; beside them gRPC's own chain of ten interceptors that pass on.",
	},
	{
		benchmark: "UnaryClient", title: "One unary RPC of a client", base: "Turret",
		text: "Through an interceptor with one layer, over an invoker that does nothing: what the caller pays before anything is sent.",
	},
	{
		benchmark: "UnaryServer", title: "One unary RPC of a server", base: "Turret",
		text: "Through the interceptor of a server, to a handler that does nothing.",
	},
	{
		benchmark: "Five", title: "Five layers", base: "Turret",
		text: "Timeout, load shedder, concurrency limit, rate limit and Retry with its budget, beside failsafe-go's timeout, circuit breaker, bulkhead, rate limiter and retry.",
	},
	{
		benchmark: "Refusal", title: "Refusals", base: "Turret",
		text: "What it costs to say no, which is what an overloaded process does most. Turret's refusals are statuses with an ErrorInfo, and with a RetryInfo where the delay is known.",
	},
	{
		benchmark: "RefusalOverLoopback", title: "A refusal over loopback", base: "refused by an interceptor",
		text: "A unary RPC that a full server refuses, by an interceptor and in gRPC's tap handle, and one of 100 bytes that it answers. Client and server are in one process.",
	},
	{
		benchmark: "EndToEnd", title: "A unary RPC over loopback", base: "bare",
		text: "An echo of 100 bytes, client and server in one process; the caller has set a deadline. Unless it says otherwise a row has the same on both sides. On one processor it is steady; on several, what an RPC costs depends on whether its goroutines happen to wake each other across processors.",
	},
	{
		benchmark: "Stream", title: "Streams over loopback", base: "first of the group",
		text: "A bidirectional stream; messages have 100 bytes. failsafe-go has nothing for streams. Where a row does not say otherwise it is the client that has the layers.",
	},
	{
		benchmark: "Trace", title: "Tracing", base: "first of the group",
		text: "The layer alone; and the same echo with a span, beside OpenTelemetry's own instrumentation with the same providers and propagator. There the header that carries the span is in the figures, on both sides. On one processor.",
	},
	{
		benchmark: "Seen", title: "Metrics, events, the page", base: "first of the group",
		text: "RPCs that succeed, with OpenTelemetry's SDK unless a row says otherwise. Without a connection the row of otelgrpc is what gRPC calls its stats handler with for one RPC of a client. \"Both sides\" is the echo over loopback, on one processor.",
	},
	{
		benchmark: "Gate", title: "Mechanisms without gRPC: limits, breaker, shedder, buffer", base: "first of the group",
		text: "A call through the mechanism, around a function that does nothing. \"In a stack\" includes the stack; the libraries beside it are called directly, without an executor, unless they have no other way.",
	},
	{
		benchmark: "Timeout", title: "Mechanisms without gRPC: timeout", base: "Turret",
		text: "Around a function that asks its context for its channel, as a transport does.",
	},
	{benchmark: "Retry", title: "Mechanisms without gRPC: retry", base: "first of the group"},
	{benchmark: "Hedge", title: "Mechanisms without gRPC: hedge", base: "first of the group"},
	{
		benchmark: "Ready", title: "1,000 endpoints become ready", base: "Turret",
		text: "One after the other, each of which makes the policies build their pickers anew. gRPC's `round_robin` is its `endpointsharding` with a picker that counts: what turret.P2C is built on as well.",
	},
	{
		benchmark: "Record", title: "Retry beside turret.P2C", base: "Retry",
		text: "In a program that imports package balance an RPC with Retry carries a record of the endpoints that it has tried, so that the picker avoids them: one allocation more.",
	},
	{
		benchmark: "Pick", title: "How cost grows: endpoints", base: "Turret", growth: &growth{of: "endpoints", file: "endpoints", y: "CPU of a pick and the end of its call, ns", logY: true},
		text: "A pick of the balancing policy and the end of its call. (go-zero and kratos make a picker for each endpoint that becomes ready, so ten thousand of them take too long to wait for here.)",
	},
	{
		benchmark: "Contended", title: "Picks on all processors", base: "Turret",
		text: "The same among 100 endpoints, on as many goroutines as there are processors.",
	},
	{
		benchmark: "Layers", title: "How cost grows: layers", base: "Turret", growth: &growth{of: "layers", file: "layers", y: "CPU of a unary RPC, ns", logY: true},
		text: "A unary RPC of a client, over an invoker that does nothing.",
	},
	{
		benchmark: "Concurrent/client", title: "How cost grows: RPCs at the same time", base: "Turret", growth: &growth{of: "RPCs at a time", file: "concurrency", y: "CPU of a unary RPC, ns", logY: true},
		text: "A unary RPC of a client, over an invoker that only lets others run.",
	},
	{
		benchmark: "Concurrent/loopback", title: "How cost grows: RPCs at the same time, over loopback", base: "Turret", growth: &growth{of: "RPCs at a time", file: "loopback", y: "CPU of a unary RPC, ns"},
		text: "An echo of 100 bytes, client and server in one process, with the same on both sides.",
	},
	{
		benchmark: "Messages/there_and_back", title: "How cost grows: messages of a stream", base: "bare", growth: &growth{of: "messages", file: "messages", per: true, y: "CPU of a stream, for each message, ns", logY: true},
		text: "A whole stream whose messages are answered one by one. The figures are for each message.",
	},
	{
		benchmark: "Messages/sent", title: "How cost grows: messages that nothing answers", base: "bare", growth: &growth{of: "messages", file: "sent", per: true, y: "CPU of a stream, for each message, ns", logY: true},
		text: "A whole stream that only sends. Retry keeps the messages, until they are more than its limit of 256 KiB. The figures are for each message.",
	},
	{
		benchmark: "Methods", title: "How cost grows: methods", base: "Turret", growth: &growth{of: "methods", file: "methods", y: "CPU of a unary RPC, ns", logY: true},
		text: "A unary RPC of a client, of one method after the other: behind one `For` that matches all of them, and behind a `For` for each, which asks all of them. A service with thousands of methods that differ wants `ForMatch`, or one pattern.",
	},
}

// of returns the comparisons of the section, and what their names add to it.
func (s section) of(r *results) (found []*comparison, groups []string) {
	for _, c := range r.comparisons {
		rest, ok := strings.CutPrefix(c.name, s.benchmark)
		if ok && (rest == "" || rest[0] == '/') {
			found = append(found, c)
			groups = append(groups, strings.ReplaceAll(strings.TrimPrefix(rest, "/"), "_", " "))
		}
	}
	return found, groups
}

func (s section) write(w io.Writer, r *results, plots string) {
	found, groups := s.of(r)
	if len(found) == 0 {
		return
	}
	fmt.Fprintf(w, "\n## %s\n\n", s.title)
	if s.text != "" {
		fmt.Fprintf(w, "%s\n\n", s.text)
	}
	if s.growth != nil {
		if plots != "" {
			fmt.Fprintf(w, "![%s](%s/%s.svg)\n\n", s.title, plots, s.growth.file)
		}
		grown(w, found, groups, s)
		return
	}
	compared(w, found, groups, s)
}
