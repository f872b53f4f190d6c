package echov1

import (
	"fmt"
	"strings"
)

// MaxPayload is the largest payload_size that a plan may ask for, in bytes: it
// keeps a mistyped size from taking the memory of the whole process.
const MaxPayload = 64 << 20

// Validate returns an error that names the first field of x's plan that is out
// of its bounds. The requests of all methods have it, under the name that
// validating interceptors look for.
func (x *UnaryRequest) Validate() error { return x.GetPlan().Validate() }

// Validate returns an error that names the first field of x's plan that is out
// of its bounds.
func (x *ServerStreamRequest) Validate() error { return x.GetPlan().Validate() }

// Validate returns an error that names the first field of x's plan that is out
// of its bounds.
func (x *ClientStreamRequest) Validate() error { return x.GetPlan().Validate() }

// Validate returns an error that names the first field of x's plan that is out
// of its bounds.
func (x *BidiStreamRequest) Validate() error { return x.GetPlan().Validate() }

// Validate returns an error that names the first field that is out of its
// bounds, its value and the bound. The nil plan is valid.
func (x *Plan) Validate() error {
	if d := x.GetDelay(); d != nil && (!d.IsValid() || d.AsDuration() < 0) {
		return fmt.Errorf("plan.delay is %v seconds and %v nanoseconds, must be a duration that is not negative", d.GetSeconds(), d.GetNanos())
	}
	if n := x.GetResponses(); n < 0 {
		return fmt.Errorf("plan.responses is %d, must not be negative", n)
	}
	if n := x.GetPayloadSize(); n < 0 || n > MaxPayload {
		return fmt.Errorf("plan.payload_size is %d, must be between 0 and %d", n, MaxPayload)
	}
	for _, e := range x.GetHeaders() {
		if err := e.validate("headers"); err != nil {
			return err
		}
	}
	for _, e := range x.GetTrailers() {
		if err := e.validate("trailers"); err != nil {
			return err
		}
	}
	return x.GetFailure().validate()
}

func (x *Failure) validate() error {
	switch {
	case x == nil:
		return nil
	case x.GetCode() <= 0 && x.GetPanic() == "":
		return fmt.Errorf("plan.failure.code is %d, must be positive", x.GetCode())
	case x.GetAfter() < 0:
		return fmt.Errorf("plan.failure.after is %d, must not be negative", x.GetAfter())
	case x.GetAttempts() < 0:
		return fmt.Errorf("plan.failure.attempts is %d, must not be negative", x.GetAttempts())
	}
	return nil
}

// validate keeps out what HTTP/2 cannot carry: sent all the same, it would end
// the connection and every RPC on it.
func (x *MetadataEntry) validate(field string) error {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if key := x.GetKey(); strings.Trim(key, allowed) != "" || key == "" {
		return fmt.Errorf("plan.%s has the key %q, must be of lower-case letters, digits, '-', '_' and '.'", field, key)
	}
	for _, v := range x.GetValues() {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
			return fmt.Errorf("plan.%s has the value %q, must be printable ASCII", field, v)
		}
	}
	return nil
}
