// Package ready keeps services ready in the background, and keeps those that are
// ready apart from those that are not.
//
// A service of Turret waits for readiness when it is called, on the goroutine of
// the caller. That is enough where there is one service. A balancer of many
// services must know beforehand which of them are ready, and those that are not
// must become ready while no call waits for them: to connect, to recover.
//
//   - [Cache] holds many services under keys. Those that are ready are listed;
//     each of the others is asked until it is. One whose readiness fails for good
//     is dropped, and its owner gets the reason. [Cache.Follow] fills it from a
//     discover.Source.
//   - [Spawn] does it for one service.
//
// Both have goroutines of their own, and a Close that ends them and waits for
// them.
//
// # What differs from Tower
//
// Readiness reserves nothing here, so a service that was called stays where it
// is: it is listed as ready until [Cache.Check] finds that it is
// not. Tower's takes it out at each call and asks again. The list is a copy that
// does not change, so no removal can make an index stand for another service
// (tower issue 856). And services that are not ready are driven all the time, not
// only while a caller polls (tower issue 824).
package ready
