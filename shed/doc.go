// Package shed turns calls away while the service inside is not ready, instead
// of letting them wait.
//
// A limit that has a line makes its callers wait. That is right for work that
// has to be done; a server that gets more work than it can do should
// refuse at once, while the caller still has time to use another server. Put
// the layer outside whatever may not be ready (a limit, a breaker, a rate limit):
//
//	turret.Stack(shed.Layer[Req, Res](), limit, breaker)
//
// # The gap between asking and calling
//
// The layer asks Ready and then calls. Ready reserves nothing, so in between
// another caller may take the last room. The call then does what it would have
// done without the layer: it waits in the line of the limit, if that has one. So
// some calls may still wait, as many as come through that gap at once.
//
// Where the bound must be exact, give the limit no line (the zero limit.Queue):
// it then refuses by itself, and this layer is not needed for it.
//
// # What differs from Tower
//
// Tower's LoadShed sends one call for each time that the inner service was ready,
// because readiness there is a reservation. The price is paid by others: over a
// limit with a line, a shed handle that is idle may stand in that line, be given
// a permit, and keep it. Here Ready stands in no line and holds nothing.
package shed
