// Package misuse is how the constructors of all packages panic when they are
// given something invalid. It imports nothing of this module, so that all of it
// can import it.
package misuse

import "strings"

// Check panics if err is not nil. The value of the panic is an error that wraps
// err and has its text, but with where, "package: Constructor", in place of the
// package that err names first:
//
//	retry: Layer: MaxAttempts is -1, must be at least 1
func Check(where string, err error) {
	if err != nil {
		panic(&misuseError{where, err})
	}
}

type misuseError struct {
	where string
	err   error
}

func (e *misuseError) Error() string {
	text := e.err.Error()
	if pkg, rest, found := strings.Cut(text, ": "); found && isPackage(pkg) {
		text = rest
	}
	return e.where + ": " + text
}

func (e *misuseError) Unwrap() error { return e.err }

// isPackage reports whether s can be the name of a package: one word in lower
// case.
func isPackage(s string) bool {
	return strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz0123456789") == "" && s != ""
}
