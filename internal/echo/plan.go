package echo

import (
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
)

// maxPayload keeps a mistyped size from taking the memory of the whole process.
const maxPayload = 64 << 20

// validate returns an INVALID_ARGUMENT status that names the first field of the
// plan that is out of its bounds.
func validate(p *echov1.Plan) error {
	if d := p.GetDelay(); d != nil && (!d.IsValid() || d.AsDuration() < 0) {
		return invalid("delay is %v seconds and %v nanoseconds, must be a duration that is not negative", d.GetSeconds(), d.GetNanos())
	}
	if n := p.GetResponses(); n < 0 {
		return invalid("responses is %d, must not be negative", n)
	}
	if n := p.GetPayloadSize(); n < 0 || n > maxPayload {
		return invalid("payload_size is %d, must be between 0 and %d", n, maxPayload)
	}
	for _, e := range p.GetHeaders() {
		if err := validateEntry("headers", e); err != nil {
			return err
		}
	}
	for _, e := range p.GetTrailers() {
		if err := validateEntry("trailers", e); err != nil {
			return err
		}
	}
	return validateFailure(p.GetFailure())
}

func validateFailure(f *echov1.Failure) error {
	switch {
	case f == nil:
		return nil
	case f.GetCode() <= 0 && f.GetPanic() == "":
		return invalid("failure.code is %d, must be positive", f.GetCode())
	case f.GetAfter() < 0:
		return invalid("failure.after is %d, must not be negative", f.GetAfter())
	case f.GetAttempts() < 0:
		return invalid("failure.attempts is %d, must not be negative", f.GetAttempts())
	}
	return nil
}

// validateEntry keeps out what HTTP/2 cannot carry: sent all the same, it would
// end the connection and every RPC on it.
func validateEntry(field string, e *echov1.MetadataEntry) error {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-_."
	if key := e.GetKey(); strings.Trim(key, allowed) != "" || key == "" {
		return invalid("%s has the key %q, must be of lower-case letters, digits, '-', '_' and '.'", field, key)
	}
	for _, v := range e.GetValues() {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) {
			return invalid("%s has the value %q, must be printable ASCII", field, v)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, "echo: plan."+format, args...)
}
