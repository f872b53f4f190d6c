// Package reconnect makes a service of one that can be lost: it is made when it
// is needed, and made again when it has failed.
//
//	service := reconnect.New(dial, "10.0.0.1:80", reconnect.Config{})
//	defer service.Close()
//
// dial is a turret.Maker: a service that makes services, here out of an address.
// Layers may go around it (a timeout for each attempt), and around what it makes.
//
// # When it connects
//
// The first Ready or Call makes the first attempt; nothing happens before. An
// attempt belongs to all waiting callers, and goes on when they have given up: the
// next caller finds it under way, so that connecting may take longer than a caller's
// patience. Package ready's Spawn keeps a service connected while it is not used.
//
// A service that was made is given up when its readiness fails for good. That is
// looked at before each call and in Ready; what calls return makes no difference.
// Calls that are in flight on it go on. When the last of them is over, the service
// is closed, if it has a method Close() or Close() error.
//
// # While it is not connected
//
// Ready waits until it is. Call waits for an attempt that is under way. Between
// two attempts it is refused at once, with a [*turret.Refusal] of KindUnavailable,
// reason NOT_CONNECTED, that has the error of the last attempt and says how long
// it takes until the next one: time to use another service. To wait instead,
// use turret.Do, or put a buffer in front.
//
// Attempts that fail are followed by a pause that grows, by Config.Backoff, and
// the next one is made only if a caller needs it. A service that is lost before
// any call on it has succeeded counts as an attempt that failed: an address that
// takes connections and drops them is treated in the same way.
//
// # What differs from Tower
//
// Tower's Reconnect says that it is ready when it could not connect, so that
// balancers prefer what is broken (grpc-rust issue 2839), and returns the error
// to the next call, even if it has connected since. It has no backoff (tower
// issue 60): under load it connects in a loop. It forgets why it lost a
// connection. Here a service that is not connected is not ready, a call gets the
// last error or none, and every refusal has one.
package reconnect
