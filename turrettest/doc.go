// Package turrettest helps to test services, layers and gates.
//
//   - [Recorder] is a gate that lets every call in and remembers how each call
//     went. Outside a layer it shows that a call has exactly one outcome, and
//     that nothing is held after it.
//   - [Mock] is a service whose part the test plays: it takes the next request,
//     looks at it, and answers when and how it likes. [Go] makes a call and
//     lets the test see whether it waits.
//   - [TestGate] is the conformance suite of [turret.Gate]. The gates of this
//     module run through it; run yours through it too.
//   - [TestLayer] is that of layers, and [TestTracker] that of the load of
//     endpoints.
//
// Everything here works inside a testing/synctest bubble, where a test can
// wait until no goroutine moves any more, and time costs nothing.
package turrettest
