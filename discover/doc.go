// Package discover says which services there are, as they come and go.
//
// A [Source] is a stream of [Change]: a service was inserted under a key, or the
// one under that key was removed. [List] is a source for services that do not
// change, and [Addresses] one for addresses; [Channel] turns a channel of changes
// into one; balance.Resolve is one of what a resolver of gRPC finds; whatever else
// knows of services (a watch on a registry) implements the one method of Source. [Map] puts layers around each service of a source.
//
// Keys are unique among the services that are there. Inserting under a key that
// is taken replaces the service: users of the source go on with the old one
// until the new one is ready. A key may be used again after its removal.
//
// A source that ends says only that nothing will change any more: the services
// stay. Package ready follows a source and keeps the services that are ready
// apart from the others.
package discover
