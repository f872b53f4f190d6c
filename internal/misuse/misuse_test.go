package misuse_test

import (
	"errors"
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

func TestPanicNamesTheConstructorOnce(t *testing.T) {
	for text, want := range map[string]string{
		"retry: MaxAttempts is -1": "interceptors: Retry: MaxAttempts is -1",
		"two words: first":         "interceptors: Retry: two words: first",
		": nothing":                "interceptors: Retry: : nothing",
		"nothing":                  "interceptors: Retry: nothing",
	} {
		if got := panicOf(errors.New(text)); got == nil || got.Error() != want {
			t.Errorf("an error %q panics with %v, want %q", text, got, want)
		}
	}
}

func TestPanicWrapsTheFieldError(t *testing.T) {
	want := &turret.FieldError{Package: "retry", Field: "MaxAttempts", Value: -1, Bound: "at least 1"}
	if got, ok := errors.AsType[*turret.FieldError](panicOf(want)); !ok || got != want {
		t.Errorf("errors.As finds %v, want %v", got, want)
	}
}

func TestNoErrorIsNoPanic(t *testing.T) {
	if got := panicOf(nil); got != nil {
		t.Errorf("nil panics with %v", got)
	}
}

// panicOf returns the error that Check panics with, or nil.
func panicOf(err error) (got error) {
	defer func() { got, _ = recover().(error) }()
	misuse.Check("interceptors: Retry", err)
	return nil
}
