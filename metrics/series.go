package metrics

import (
	"context"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/turret-go/turret/internal/boundedmap"
	"github.com/turret-go/turret/trace"
)

// other is the method of all RPCs whose method has no series of its own, as the
// semantic conventions name it.
const other = "_OTHER"

// longest is how many bytes the name of a method or a target with series of its
// own has at most.
const longest = 1 << 10

// maxTargets is how many targets have series of their own. What is dialed later has
// series without server.address.
const maxTargets = 100

// codeOK is the code of RPCs that succeed.
const codeOK = "OK"

// maxCodes is how many codes of a series are kept: gRPC has 17.
const maxCodes = 24

// withoutTarget is how many Calls there are that name no target: each method, and
// the other ones, served, sent and as an attempt. maxSeries is how many Series there
// are at most: with targets until there is just room for those without.
func withoutTarget(methods int) int { return 3 * (methods + 1) }

func maxSeries(methods int) int { return 8 * withoutTarget(methods) }

// A Call is what RPCs that share series have in common.
type Call struct {
	// Method is the full name: "/package.Service/Method".
	Method string
	// Server says that the RPC is served here; otherwise it is sent from here.
	Server bool
	// Target is what the client dialed, such as "dns:///example.com:443". Empty:
	// not known. It means nothing on a server.
	Target string
	// Attempt says that it is one attempt of an RPC, of which the RPC may have
	// several.
	Attempt bool
}

// durationNames are the histograms of the three sorts of Call, see durationOf.
var durationNames = [3]struct{ name, what string }{
	{"rpc.client.call.duration", "Duration of outbound RPCs, retries included."},
	{"rpc.server.call.duration", "Duration of inbound RPCs."},
	{"turret.client.attempt.duration", "Duration of single attempts of outbound RPCs."},
}

func durationOf(c Call) int {
	switch {
	case c.Server:
		return 1
	case c.Attempt:
		return 2
	default:
		return 0
	}
}

// A Series records the RPCs of one [Call]: [Series.Begin] when an RPC begins, and
// [Series.End] once for each when it has ended. It is made by [Meter.Series]. Its
// methods may be called concurrently and, but for the first of a code, allocate
// nothing.
type Series struct {
	call     Call
	duration metric.Float64Histogram
	active   atomic.Int64
	success  []metric.RecordOption // of RPCs that end with "OK"
	byCode   boundedmap.Map[string, []metric.RecordOption]
}

// Begin notes that an RPC has begun.
func (s *Series) Begin() { s.active.Add(1) }

// End notes that an RPC has ended, after how long, with the code of its status as
// the gRPC specification writes it ("OK", "NOT_FOUND"). ctx may carry a span, from
// which the SDK takes an exemplar.
func (s *Series) End(ctx context.Context, took time.Duration, code string) {
	s.active.Add(-1)
	if s.duration == nil {
		return
	}
	s.duration.Record(ctx, took.Seconds(), s.optionsOf(code)...)
}

// optionsOf returns the attributes of an RPC that ended with code, made once for each
// code.
func (s *Series) optionsOf(code string) []metric.RecordOption {
	if code == codeOK {
		return s.success
	}
	return s.byCode.Get(code, s.options)
}

// options makes the attributes of an RPC that ended with code.
func (s *Series) options(code string) []metric.RecordOption {
	attributes := trace.Call{Method: s.call.Method, Server: s.call.Server, Target: s.call.Target}.Attributes()
	attributes = append(attributes, semconv.RPCResponseStatusCode(code))
	if trace.IsError(code, s.call.Server) {
		attributes = append(attributes, semconv.ErrorTypeKey.String(code))
	}
	return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attributes...))}
}

// A method is what calls that are counted together have in common.
type method struct {
	name   string
	server bool
}

func (m method) attributes() attribute.Set {
	side := "client"
	if m.server {
		side = "server"
	}
	call := trace.Call{Method: m.name, Server: true}
	return attribute.NewSet(append(call.Attributes(), SideKey.String(side))...)
}
