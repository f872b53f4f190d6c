package turret

import "context"

// Do waits until s is ready and then calls it. It is Tower's oneshot.
//
// Call waits for room by itself, so most callers need no Do. It is for a service
// whose Call refuses at once what its Ready would wait for: a limit without a
// line, a connection that is being made. Ready takes nothing; between the two
// another caller may be quicker, and the call is then refused as if Ready had
// not been asked.
//
// An error of Ready is returned as that of a call that was not sent: it matches
// [ErrNotReady], also if it is final.
func Do[Req, Res any](ctx context.Context, s Service[Req, Res], req Req) (res Res, err error) {
	if err := s.Ready(ctx); err != nil {
		return res, unsent(err)
	}
	return s.Call(ctx, req)
}
