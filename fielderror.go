package turret

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"

	"github.com/turret-go/turret/internal/misuse"
)

// A FieldError says which field of a configuration, or which parameter of a
// constructor, has a value that it must not have. Every Validate of Turret
// returns one, and the constructors panic with an error in which errors.As finds
// it, so that a tool can report the field in words and names of its own. A
// FieldError must not be changed after it was returned.
type FieldError struct {
	// Package is the name of the package whose configuration it is: "retry".
	Package string
	// Field is the path of the field, as it is written in Go below the validated
	// value: "MaxAttempts", "Backoff.Base". For a parameter it is the name of the
	// parameter.
	Field string
	// Value is what the field holds.
	Value any
	// Bound is what the value must be, such that "must be " can precede it: "at
	// least 1", "between 0 and 1", "positive".
	Bound string
}

// Error returns "retry: MaxAttempts is -1, must be at least 1". A string value is
// quoted.
func (e *FieldError) Error() string {
	text := fmt.Sprintf("%s is %s, must be %s", e.Field, e.value(), e.Bound)
	if e.Package != "" {
		text = e.Package + ": " + text
	}
	return text
}

func (e *FieldError) value() string {
	if e.Value == nil {
		return "nil"
	}
	v := reflect.ValueOf(e.Value)
	switch v.Kind() {
	case reflect.Pointer, reflect.Func, reflect.Chan:
		if v.IsNil() {
			return fmt.Sprintf("a nil %T", e.Value)
		}
	case reflect.String:
		return strconv.Quote(v.String())
	default:
	}
	return fmt.Sprint(e.Value)
}

// FieldOf returns err, which the Validate of a field returned, as the error of
// the configuration that has the field: the path of a [FieldError] then starts
// with field, and its Package is pkg. An error that is no FieldError is wrapped
// with both names. FieldOf(pkg, field, nil) is nil.
func FieldOf(pkg, field string, err error) error {
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*FieldError](err)
	if !ok {
		return fmt.Errorf("%s: %s: %w", pkg, field, err)
	}
	return &FieldError{Package: pkg, Field: field + "." + e.Field, Value: e.Value, Bound: e.Bound}
}

// misused panics because constructor was given a value that a parameter must not
// have.
func misused(constructor, parameter string, value any, bound string) {
	misuse.Check("turret: "+constructor, &FieldError{Package: "turret", Field: parameter, Value: value, Bound: bound})
}
