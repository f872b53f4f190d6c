package turret_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/turret-go/turret"
)

func TestRefusalText(t *testing.T) {
	tests := map[string]struct {
		refusal turret.Refusal
		want    string
	}{
		"zero":   {turret.Refusal{}, ""},
		"reason": {turret.Refusal{Reason: "LIMIT_FULL"}, "LIMIT_FULL"},
		"layer":  {turret.Refusal{Layer: "limit", Reason: "LIMIT_FULL"}, "limit: LIMIT_FULL"},
		"error":  {turret.Refusal{Layer: "limit", Reason: "LIMIT_FULL", Err: errBoom}, "limit: boom"},
		"retry after": {
			turret.Refusal{Layer: "limit", Err: errBoom, RetryAfter: 1500 * time.Millisecond},
			"limit: boom, retry after 1.5s",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tt.refusal.Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestWhatErrorsMatch has a row for each way in which an error can hang
// together, and says what errors.Is finds in it.
func TestWhatErrorsMatch(t *testing.T) {
	refusal := &turret.Refusal{Layer: "limit", Err: errBoom}
	tests := map[string]struct {
		err                                error
		notReady, boom, canceled, aRefusal bool
	}{
		"ErrNotReady":             {err: turret.ErrNotReady, notReady: true},
		"a plain error":           {err: errBoom, boom: true},
		"a refusal":               {err: refusal, notReady: true, boom: true, aRefusal: true},
		"a refusal without cause": {err: &turret.Refusal{}, notReady: true, aRefusal: true},
		"wrapped":                 {err: fmt.Errorf("x: %w", refusal), notReady: true, boom: true, aRefusal: true},
		"joined":                  {err: errors.Join(context.Canceled, refusal), notReady: true, boom: true, canceled: true, aRefusal: true},

		"NotReady(nil)":      {err: turret.NotReady(nil), notReady: true},
		"NotReady":           {err: turret.NotReady(context.Canceled), notReady: true, canceled: true},
		"NotReady, wrapped":  {err: fmt.Errorf("x: %w", turret.NotReady(context.Canceled)), notReady: true, canceled: true},
		"NotReady, of joint": {err: turret.NotReady(errors.Join(errBoom, context.Canceled)), notReady: true, boom: true, canceled: true},

		"Sent, refusal":        {err: turret.Sent(refusal), boom: true, aRefusal: true},
		"Sent, wrapped":        {err: turret.Sent(fmt.Errorf("x: %w", refusal)), boom: true, aRefusal: true},
		"wrapped Sent":         {err: fmt.Errorf("x: %w", turret.Sent(refusal)), boom: true, aRefusal: true},
		"Sent, joined":         {err: turret.Sent(errors.Join(context.Canceled, refusal)), boom: true, canceled: true, aRefusal: true},
		"Sent, NotReady":       {err: turret.Sent(turret.NotReady(context.Canceled)), canceled: true},
		"Sent, ErrNotReady":    {err: turret.Sent(turret.ErrNotReady)},
		"Sent twice":           {err: turret.Sent(turret.Sent(refusal)), boom: true, aRefusal: true},
		"Sent, plain":          {err: turret.Sent(errBoom), boom: true},
		"a refusal after Sent": {err: errors.Join(turret.Sent(refusal), refusal), notReady: true, boom: true, aRefusal: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for _, m := range []struct {
				target error
				want   bool
			}{{turret.ErrNotReady, tt.notReady}, {errBoom, tt.boom}, {context.Canceled, tt.canceled}} {
				if got := errors.Is(tt.err, m.target); got != m.want {
					t.Errorf("errors.Is(%v): %t, want %t", m.target, got, m.want)
				}
			}
			_, asType := errors.AsType[*turret.Refusal](tt.err)
			var target *turret.Refusal
			if as := errors.As(tt.err, &target); as != tt.aRefusal || asType != tt.aRefusal {
				t.Errorf("errors.As %t and errors.AsType %t, want %t", as, asType, tt.aRefusal)
			}
		})
	}
}

func TestSentKeepsWhatIsNotARefusal(t *testing.T) {
	if err := turret.Sent(nil); err != nil {
		t.Errorf("Sent(nil): %v, want nil", err)
	}
	if err := turret.Sent(errBoom); err != errBoom { //nolint:errorlint // the error itself is promised
		t.Errorf("Sent: %v (%T), want the error itself", err, err)
	}
}

func TestErrorTextsAreKept(t *testing.T) {
	refusal := &turret.Refusal{Layer: "limit", Reason: "LIMIT_FULL"}
	if got := turret.Sent(refusal).Error(); got != refusal.Error() {
		t.Errorf("Sent: %q, want %q", got, refusal)
	}
	if got := turret.NotReady(context.Canceled).Error(); got != context.Canceled.Error() {
		t.Errorf("NotReady: %q, want %q", got, context.Canceled)
	}
}

func TestKindNames(t *testing.T) {
	for kind, want := range map[turret.Kind]string{
		turret.KindOverloaded: "Overloaded", turret.KindRateLimited: "RateLimited",
		turret.KindUnavailable: "Unavailable", 9: "Kind(9)",
	} {
		if got := kind.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
