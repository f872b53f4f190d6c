package balance_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/turret-go/turret/balance"
	"github.com/turret-go/turret/internal/fakeconn"
)

// FuzzServiceConfig reads what a resolver may send. What is taken is valid, is
// the same when it is written and read again, gRPC takes it too, and a policy
// works with it: no number in it makes a pick panic, or refuse a call while
// nothing has failed.
func FuzzServiceConfig(f *testing.F) {
	for _, text := range []string{
		`{}`, `null`, `[]`, `{"slowStart":"3s"}`, `{"load":"pending","choices":10}`, `{"seed":18446744073709551615}`,
		`{"decay":"1us","defaultRtt":"1ns","penalty":"-1ns"}`, `{"decay":"2562047h47m16.854775807s","slowStart":"2562047h47m16.854775807s"}`,
		`{"limit":1,"onFull":"refuse"}`, `{"limit":9223372036854775807,"onFull":"use"}`,
		`{"failures":{"consecutive":1,"ratio":1e-300,"minCalls":1,"window":"10ms","banFor":"1ns","maxBanFor":"1ns"},"maxBanned":1e-300,"onBanned":"refuse"}`,
		`{"failures":{"consecutive":-9223372036854775808,"ratio":-1,"window":"2562047h"},"outliers":{"consecutive":9223372036854775807,"maxBanFor":"2562047h"}}`,
		`{"outliers":{"consecutive":1,"banFor":"2562047h47m16.854775807s","maxBanFor":"2562047h47m16.854775807s"},"maxBanned":1}`,
		`{"onBanned":"fail_over","failures":{"consecutive":1,"banFor":"1ns"}}`, `{"onBanned":"fail_over","maxBanned":1}`,
		`{"slowStart":"-1s","maxBanned":-1}`, `{"decay":"1e3s"}`, `{"choices":2}{}`, `{"choices":2.0}`, `{"choices":1e1}`, `{"CHOICES":3}`,
	} {
		f.Add([]byte(text))
	}
	text, _ := json.Marshal(everything)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := parser(t).ParseConfig(text)
		if err != nil {
			return
		}
		written, err := json.Marshal(parsed)
		if err != nil {
			t.Fatal(err)
		}
		c := roundTrip(t, written)
		conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()), balance.WithP2C(c))
		if err != nil {
			t.Fatalf("gRPC does not take %s: %v", written, err)
		}
		_ = conn.Close()
		synctest.Test(t, func(t *testing.T) { tryOut(t, c) })
	})
}

// roundTrip reads written and writes and reads it again.
func roundTrip(t *testing.T, written []byte) balance.Config {
	t.Helper()
	var c, again balance.Config
	if err := json.Unmarshal(written, &c); err != nil {
		t.Fatalf("%s was taken, but: %v", written, err)
	}
	if err := c.Validate(); err != nil {
		t.Fatalf("%s was taken, but: %v", written, err)
	}
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &again); err != nil || again != c || string(text) != string(written) {
		t.Fatalf("%s: round trip %+v (%v), want %+v", written, again, err, c)
	}
	return c
}

// tryOut makes calls that end in every way, over a time that is longer than any
// of the defaults.
func tryOut(t *testing.T, c balance.Config) {
	f := newFleet(t, c, fakeconn.Endpoints(3))
	ends := []balancer.DoneInfo{answered, down, answered, unused, cutStream, failed(codes.DeadlineExceeded), failed(codes.Canceled), down, down}
	for i := range 60 {
		p, err := f.tryPick(t.Context())
		if err != nil {
			if i == 0 {
				t.Fatalf("%+v refuses its first call: %v", c, err)
			}
			time.Sleep(time.Second)
			continue
		}
		time.Sleep(time.Duration(i*i) * time.Millisecond)
		p.done(ends[i%len(ends)])
	}
}
