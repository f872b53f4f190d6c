package interceptors

import (
	"math"
	"math/big"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
)

const retryInfoURL = "type.googleapis.com/google.rpc.RetryInfo"

// FuzzRetryInfo reads the details of a server's status: one that it makes of
// bytes, and a RetryInfo of any numbers. The first that has a delay counts.
func FuzzRetryInfo(f *testing.F) {
	for _, d := range []*durationpb.Duration{
		{},
		{Seconds: 1},
		{Nanos: 1},
		{Seconds: -1},
		{Nanos: -1},
		{Seconds: 1, Nanos: -1},
		{Seconds: -1, Nanos: -1},
		{Seconds: math.MaxInt64},
		{Seconds: math.MinInt64, Nanos: math.MinInt32},
		{Seconds: 1e18},
		{Nanos: 1e9},
		{Nanos: 1e9 - 1},
		{Seconds: 315_576_000_000},
		{Seconds: 315_576_000_001},
		{Seconds: 9_223_372_036, Nanos: 854_775_807},
		{Seconds: 9_223_372_036, Nanos: 854_775_808},
	} {
		text, _ := proto.Marshal(&errdetails.RetryInfo{RetryDelay: d})
		f.Add(d.GetSeconds(), d.GetNanos(), retryInfoURL, text)
		f.Add(d.GetSeconds(), d.GetNanos(), "type.example/no.Such", text)
		f.Add(d.GetSeconds(), d.GetNanos(), retryInfoURL, append(text, 0xff))
	}
	f.Add(int64(1), int32(0), "", []byte{0x0a})
	f.Add(int64(1), int32(0), "/", []byte(nil))
	f.Add(int64(1), int32(0), retryInfoURL, []byte(nil)) // one without a delay, and then one with it
	f.Fuzz(func(t *testing.T, seconds int64, nanos int32, url string, value []byte) {
		infoText, err := proto.Marshal(&errdetails.RetryInfo{RetryDelay: &durationpb.Duration{Seconds: seconds, Nanos: nanos}})
		if err != nil {
			t.Fatal(err)
		}
		failure := status.ErrorProto(&spb.Status{Code: int32(codes.Unavailable), Details: []*anypb.Any{
			nil, {TypeUrl: url, Value: value}, {TypeUrl: retryInfoURL, Value: infoText},
		}})
		want := durationOf(seconds, nanos)
		var first errdetails.RetryInfo
		if detail, err := (&anypb.Any{TypeUrl: url, Value: value}).UnmarshalNew(); err == nil {
			if info, ok := detail.(*errdetails.RetryInfo); ok {
				proto.Merge(&first, info)
			}
		}
		if d := first.GetRetryDelay(); d != nil {
			want = durationOf(d.GetSeconds(), d.GetNanos())
		}
		if got, said := askedDelay(failure); !said || got != want {
			t.Errorf("the status asks for %v (%v), want %v", got, said, want)
		}
		if got := Classify(t.Context(), nil, nil, failure); got != turret.Overload {
			t.Errorf("a server that asks for %v counts as %v, want an overload", want, got)
		}
		if edge(failure) != failure { //nolint:errorlint // identity
			t.Error("the status changes when it leaves a stack")
		}
	})
}

// durationOf is the duration of a protobuf message as its documentation has it,
// as far as a time.Duration holds it; -1, which is never, if it is not valid.
func durationOf(seconds int64, nanos int32) time.Duration {
	const tenThousandYears = 315_576_000_000
	switch {
	case seconds < -tenThousandYears, seconds > tenThousandYears, nanos <= -1e9, nanos >= 1e9, seconds > 0 && nanos < 0, seconds < 0 && nanos > 0:
		return -1
	}
	sum := new(big.Int).Mul(big.NewInt(seconds), big.NewInt(1e9))
	sum.Add(sum, big.NewInt(int64(nanos)))
	switch {
	case sum.IsInt64():
		return time.Duration(sum.Int64())
	case sum.Sign() < 0:
		return math.MinInt64
	default:
		return math.MaxInt64
	}
}
