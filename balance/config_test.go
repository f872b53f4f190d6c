package balance_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/turret-go/turret/balance"
)

// everything has no zero field.
var everything = balance.Config{
	Load: balance.LoadPeakEWMA, Decay: 1500 * time.Millisecond, DefaultRTT: time.Nanosecond, Penalty: -1500 * time.Millisecond,
	Choices: 3, Limit: 100, OnFull: balance.Use,
	Failures: balance.Failures{
		Consecutive: 7, Ratio: 0.25, MinCalls: 9, Window: time.Minute, BanFor: 3 * time.Second, MaxBanFor: time.Hour,
	},
	Outliers:  balance.Outliers{Consecutive: -1, BanFor: time.Millisecond, MaxBanFor: time.Second},
	MaxBanned: 0.75, OnBanned: balance.Refuse, SlowStart: 90*time.Second + 1, Seed: 42,
	Subset: balance.Subset{Size: 20, Client: "orders-7"},
}

func parser(t *testing.T) balancer.ConfigParser {
	t.Helper()
	p, ok := balancer.Get(balance.Name).(balancer.ConfigParser)
	if !ok {
		t.Fatal("the policy has no config")
	}
	return p
}

// Policies with children write a child's parsed config and parse it again.
func TestConfigRoundTrip(t *testing.T) {
	for _, c := range []balance.Config{{}, everything, {OnBanned: balance.FailOver}, {SlowStart: -1}, {Decay: math.MaxInt64}} {
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parser(t).ParseConfig(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		again, err := json.Marshal(parsed)
		if err != nil || string(again) != string(text) {
			t.Errorf("parsed and written again: %s (%v), want %s", again, err, text)
		}
		var back balance.Config
		if err := json.Unmarshal(again, &back); err != nil || back != c {
			t.Errorf("round trip: %+v (%v), want %+v", back, err, c)
		}
	}
}

func TestConfigText(t *testing.T) {
	text, _ := json.Marshal(everything)
	for _, want := range []string{
		`"decay":"1.5s"`, `"defaultRtt":"0.000000001s"`, `"penalty":"-1.5s"`, `"window":"60s"`, `"slowStart":"90.000000001s"`, `"onFull":"use"`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s lacks %s", text, want)
		}
	}
	if text, _ := json.Marshal(balance.Config{}); string(text) != "{}" {
		t.Errorf("the zero config is %s, want {}", text)
	}
}

func TestConfigRefused(t *testing.T) {
	tests := []struct{ text, want string }{
		{`{"choice":2}`, `unknown field "choice"`},
		{`{"failures":{"consecutiv":2}}`, `unknown field "consecutiv"`},
		{`{"choices":"2"}`, "choices"},
		{`{"slowStart":3}`, "slowStart"},
		{`{"slowStart":"3 apples"}`, `slowStart: "3 apples" is no duration`},
		{`{"failures":{"banFor":30}}`, `failures.banFor: number is no duration`},
		{`{"choices":1}`, "Choices is 1, must be between 2 and 10"},
		{`{"choices":11}`, "Choices is 11"},
		{`{"load":"ewwma"}`, `Load is "ewwma", must be`},
		{`{"limit":-1}`, "Limit is -1, must be at least 0"},
		{`{"decay":"1ns"}`, "Decay is 1ns, must be at least 1µs"},
		{`{"defaultRtt":"-1s"}`, "DefaultRTT is -1s"},
		{`{"onFull":"wait"}`, `OnFull is "wait", must be`},
		{`{"onBanned":"panic"}`, `OnBanned is "panic", must be one of ["refuse" "use" "fail_over"]`},
		{`{"onFull":"fail_over"}`, `OnFull is "fail_over", must be one of ["refuse" "use"]`},
		{`{"onBanned":"fail_over","maxBanned":-1}`, `MaxBanned is -1, must be at least 0 where OnBanned is "fail_over"`},
		{`{"maxBanned":1.1}`, "MaxBanned is 1.1, must be at most 1"},
		{`{"failures":{"ratio":2}}`, "Failures.Ratio is 2"},
		{`{"failures":{"minCalls":-1}}`, "MinCalls is -1"},
		{`{"failures":{"banFor":"-1s"}}`, "Failures.BanFor is -1s, must be at least 0"},
		{`{"failures":{"banFor":"2s","maxBanFor":"1s"}}`, "Failures.MaxBanFor is 1s, must be at least BanFor (2s)"},
		{`{"subset":{"size":-1}}`, "Subset.Size is -1, must be at least 0 (0 means all endpoints)"},
		{`{"subset":{"client":"orders"}}`, `Subset.Client is "orders", must be a number, or a name that ends with a hyphen and a number`},
		{`{"subset":{"client":"-7x"}}`, `Subset.Client is "-7x"`},
		{`{"subset":{"index":7}}`, `unknown field "index"`},
		{`{"outliers":{"maxBanFor":"-1s"}}`, "Outliers.MaxBanFor is -1s"},
	}
	for _, tt := range tests {
		_, err := parser(t).ParseConfig([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.text, err, tt.want)
			continue
		}
		_, err = grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"turret.P2C":`+tt.text+`}]}`))
		if err == nil {
			t.Errorf("%s: NewClient takes it", tt.text)
		}
	}
}

func TestWithP2CPanics(t *testing.T) {
	defer func() {
		if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "Limit is -1") {
			t.Errorf("panic %v", err)
		}
	}()
	balance.WithP2C(balance.Config{Limit: -1})
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"slowStart":"3s"}`))
	text, _ := json.Marshal(everything)
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		var c balance.Config
		if json.Unmarshal(text, &c) != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("%s was taken, but %v", text, err)
		}
		again, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back balance.Config
		if err := json.Unmarshal(again, &back); err != nil || back != c {
			t.Fatalf("%s: round trip %+v (%v), want %+v", text, back, err, c)
		}
	})
}
