package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/examples/internal/demo"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/turrettest"
)

// A gate of one's own passes the suite that Turret's gates pass.
func TestSwitchIsAGate(t *testing.T) {
	turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) { return new(Switch), -1 })
}

// While it is off the gate is not ready, which is not final.
func TestSwitch(t *testing.T) {
	var s Switch
	for _, on := range []bool{true, false, true} {
		s.Turn(on)
		ready := s.Ready(t.Context())
		_, entered := s.TryEnter(t.Context())
		for _, err := range []error{ready, entered} {
			if on && err != nil || !on && (!errors.Is(err, ErrOff) || turret.IsFinal(err)) {
				t.Errorf("on %t: %v", on, err)
			}
		}
	}
	node := turret.Describe(&s, 0)
	if got := fmt.Sprint(node.Title, " ", node.Figures[0].Text); got != "switch: on, 2 in flight, 1 refused on" {
		t.Errorf("it describes itself as %q", got)
	}
}

// And its layers pass the suite of layers.
func TestTimedIsALayer(t *testing.T) {
	turrettest.TestLayer(t, func(*testing.T) turret.Layer[string, int] {
		return Timed[string, int](func(time.Duration, turret.Outcome) {})
	}, turrettest.LayerTraits[string, int]{Response: func(n int) int { return n }})
}

func TestLatencyIsALayer(t *testing.T) {
	turrettest.TestLayer(t, func(*testing.T) interceptors.Layer { return Latency(func(Sample) {}) },
		turrettest.LayerTraits[*interceptors.RPC, any]{
			Request:  func(n int) *interceptors.RPC { return &interceptors.RPC{Method: "/shop.Orders/Place", Request: n} },
			Response: func(n int) any { return n },
		})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		if err := run(demo.InMemory(t.Context()), &out); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"10 Success  /turret.echo.v1.EchoService/BidiStream",
			"10 Success  /turret.echo.v1.EchoService/Unary",
			"10 Failure  /turret.echo.v1.EchoService/Unary", // what the client saw of the refusals
			"10 Unused   /turret.echo.v1.EchoService/Unary", // what the server did
			"switch: off, 0 in flight, 40 refused",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	})
}

func TestTimed(t *testing.T) {
	var outcomes []turret.Outcome
	layer := Timed[string, int](func(_ time.Duration, o turret.Outcome) { outcomes = append(outcomes, o) })
	s := layer(turret.ServiceFunc(func(_ context.Context, s string) (int, error) {
		if s == "" {
			return 0, errors.New("empty")
		}
		return len(s), nil
	}))
	_, _ = s.Call(t.Context(), "x")
	_, _ = s.Call(t.Context(), "")
	if len(outcomes) != 2 || outcomes[0] != turret.Success || outcomes[1] != turret.Failure {
		t.Errorf("outcomes %v", outcomes)
	}
}
