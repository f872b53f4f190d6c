package balance_test

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// asks is how a call ends whose server asks to be left alone.
func asks(t *testing.T, trailer []string, info *errdetails.RetryInfo) balancer.DoneInfo {
	t.Helper()
	st, err := status.New(codes.Unavailable, "later").WithDetails(info)
	if err != nil {
		t.Fatal(err)
	}
	d := balancer.DoneInfo{Err: st.Err(), BytesSent: true, BytesReceived: true}
	if trailer != nil {
		d.Trailer = metadata.MD{"grpc-retry-pushback-ms": trailer}
	}
	return d
}

// An endpoint that asks for absurd waits is left alone for a while, and no
// longer: what a server says does not take it out for a day.
func TestAbsurdPushback(t *testing.T) {
	var ends []balancer.DoneInfo
	for _, text := range []string{"-1", "9223372036854775807", "9223372036854", "NaN", "1e18", "", strings.Repeat("9", 10_000)} {
		ends = append(ends, asks(t, []string{text, text}, &errdetails.RetryInfo{}))
	}
	for _, d := range []*durationpb.Duration{
		nil, {Seconds: 1e18}, {Seconds: -1e18}, {Seconds: math.MaxInt64, Nanos: math.MaxInt32}, {Seconds: math.MinInt64}, {Seconds: 1, Nanos: -1},
	} {
		ends = append(ends, asks(t, nil, &errdetails.RetryInfo{RetryDelay: d}))
	}
	synctest.Test(t, func(t *testing.T) {
		for _, end := range ends {
			f := newFleet(t, balance.Config{}, fakeconn.Endpoints(2))
			f.serve(20, sick(end))
			time.Sleep(10 * time.Minute)
			if counts := f.serve(400, well); len(counts) != 2 {
				t.Errorf("ten minutes after %v (trailer %.40q) the endpoints are used so: %v", end.Err, end.Trailer, counts)
			}
		}
	})
}
