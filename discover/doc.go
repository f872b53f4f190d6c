// Package discover says which services there are, as they come and go.
//
// A [Source] is a stream of [Change]: a service was inserted under a key, or the
// one under that key was removed. [List] is a source for services that do not
// change; [Channel] turns a channel of changes into one; whatever else knows of
// services (a resolver, a watch on a registry) implements the one method of
// Source. [Map] puts layers around each service of a source.
//
// Keys are unique among the services that are there. Inserting under a key that
// is taken replaces the service: users of the source go on with the old one
// until the new one is ready. A key may be used again after its removal.
//
// A source that ends says only that nothing will change any more: the services
// stay. Package ready follows a source and keeps the services that are ready
// apart from the others.
package discover
