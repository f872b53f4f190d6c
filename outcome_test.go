package turret_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/turret-go/turret"
)

func TestClassify(t *testing.T) {
	live := func(t *testing.T) context.Context { return t.Context() }
	cancelled := func(t *testing.T) context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		return ctx
	}
	late := func(t *testing.T) context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		t.Cleanup(cancel)
		time.Sleep(2 * time.Second)
		return ctx
	}
	tests := map[string]struct {
		ctx  func(t *testing.T) context.Context
		err  error
		want turret.Outcome
	}{
		"success":                               {live, nil, turret.Success},
		"success, although cancelled":           {cancelled, nil, turret.Success},
		"success, although late":                {late, nil, turret.Success},
		"error":                                 {live, errBoom, turret.Failure},
		"error after our caller cancelled":      {cancelled, errBoom, turret.Ignored},
		"the cancellation of our caller":        {cancelled, context.Canceled, turret.Ignored},
		"a cancellation that is not ours":       {live, context.Canceled, turret.Failure},
		"our caller's deadline":                 {late, context.DeadlineExceeded, turret.Failure},
		"error after our caller's deadline":     {late, errBoom, turret.Failure},
		"a deadline that a layer below has set": {live, fmt.Errorf("x: %w", context.DeadlineExceeded), turret.Failure},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if got := turret.Classify(tt.ctx(t), tt.err); got != tt.want {
					t.Errorf("got %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestOutcomeNames(t *testing.T) {
	for outcome, want := range map[turret.Outcome]string{
		turret.Success: "Success", turret.Failure: "Failure", turret.Overload: "Overload",
		turret.Ignored: "Ignored", turret.Unused: "Unused", 0: "Outcome(0)", 9: "Outcome(9)",
	} {
		if got := outcome.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
