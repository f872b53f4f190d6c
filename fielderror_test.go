package turret_test

import (
	"errors"
	"testing"
	"time"

	"github.com/turret-go/turret"
)

func TestFieldErrorText(t *testing.T) {
	type word string
	for _, tt := range []struct {
		err  turret.FieldError
		want string
	}{
		{turret.FieldError{"retry", "MaxAttempts", -1, "at least 1"}, "retry: MaxAttempts is -1, must be at least 1"},
		{turret.FieldError{"retry", "Backoff.Max", time.Second, "at least Base (2s)"}, "retry: Backoff.Max is 1s, must be at least Base (2s)"},
		{turret.FieldError{"balance", "Load", word("x"), "ewma"}, `balance: Load is "x", must be ewma`},
		{turret.FieldError{"interceptors", "name", "", "non-empty"}, `interceptors: name is "", must be non-empty`},
		{turret.FieldError{"turret", "gate", nil, "non-nil"}, "turret: gate is nil, must be non-nil"},
		{turret.FieldError{"turret", "gate", (*turret.FieldError)(nil), "non-nil"}, "turret: gate is a nil *turret.FieldError, must be non-nil"},
		{turret.FieldError{"", "kinds", []int{}, "non-empty"}, "kinds is [], must be non-empty"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestFieldOfPutsTheFieldInFront(t *testing.T) {
	inner := &turret.FieldError{"retry", "Base", -1, "positive"}
	err := turret.FieldOf("reconnect", "Backoff", inner)
	if got, want := err.Error(), "reconnect: Backoff.Base is -1, must be positive"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if inner.Package != "retry" || inner.Field != "Base" {
		t.Errorf("the error of the field became %v", inner)
	}
	if err := turret.FieldOf("reconnect", "Backoff", nil); err != nil {
		t.Errorf("nil became %v", err)
	}
	plain := errors.New("too blue")
	if err := turret.FieldOf("p", "Colour", plain); !errors.Is(err, plain) || err.Error() != "p: Colour: too blue" {
		t.Errorf("a plain error became %v", err)
	}
}
