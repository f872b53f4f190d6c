package interceptors

import (
	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// misused panics because constructor was given a value that a parameter must not
// have.
// It does not return. bound is such that "must be " can precede it.
func misused(constructor, parameter string, value any, bound string) {
	misuse.Check("interceptors: "+constructor, &turret.FieldError{
		Package: "interceptors", Field: parameter, Value: value, Bound: bound,
	})
}
