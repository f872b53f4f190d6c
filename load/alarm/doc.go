// Package alarm lets a server that is sick say so to all of its clients.
//
// A client alone learns that a server has become slow from its own calls, and
// forgets it while it sends none. Each of 20 clients then tries the server again by
// itself. A server that serves all of them knows at once, and for all. An [Alarm]
// measures the unary calls of one server, and says on a stream to each client when
// they take far longer than they ordinarily do:
//
//	alarm := alarm.New(alarm.Config{})
//	stack := interceptors.New(alarm.Layer(), ...)
//	server := grpc.NewServer(stack.ServerOptions()...)
//	alarm.Register(server)
//
// Clients need nothing: the policy turret.P2C opens one stream of
// turret.load.v1.Load/Watch on each connection, asks servers that do not have it
// once, and heeds what it is sent only as an alarm (see [balance.Config]). While a
// server is well nothing is sent, and its clients choose as they would without it.
//
// The server is its own measure: sick is what takes far longer than the calls of
// the last minutes took. A server that has always been slow is not sick.
package alarm
