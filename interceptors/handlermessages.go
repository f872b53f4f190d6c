package interceptors

import (
	"reflect"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/runtime/protoimpl"
)

// This file keeps the messages of a handler apart from those that gRPC works on,
// where a method of a stream may be given up: see interruptible.

// An inbox has the messages that gRPC receives into.
type inbox struct {
	spare any // an empty message of generated code, to be used again
}

// open returns a message of m's type, with what m contains, which shares nothing
// with m if m is empty or a message of protobuf. (A codec of protobuf resets it; a
// message of another kind that is not empty shares what it refers to.) It returns m
// itself where that is no pointer: there is no other of its type then.
func (b *inbox) open(m any) any {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return m
	}
	if b.spare != nil && reflect.TypeOf(b.spare) == v.Type() {
		return b.spare
	}
	if p, ok := m.(proto.Message); ok {
		if fresh := p.ProtoReflect().New().Interface(); reflect.TypeOf(fresh) == v.Type() {
			return fresh
		}
	}
	fresh := reflect.New(v.Type().Elem())
	fresh.Elem().Set(v.Elem())
	return fresh.Interface()
}

// deliver moves what was received from into to m.
// It copies the struct, which is right only because into is not used afterwards as it
// is: it is cleared, or dropped.
func (b *inbox) deliver(into, m any) {
	if samePointer(into, m) || reflect.TypeOf(m).Kind() != reflect.Pointer {
		return
	}
	from := reflect.ValueOf(into).Elem()
	reflect.ValueOf(m).Elem().Set(from)
	if b.spare = nil; isGenerated(into) {
		from.SetZero() // as it was made by new
		b.spare = into
	}
}

// isGenerated reports whether m is a message of generated code, whose zero value is
// an empty message.
func isGenerated(m any) bool {
	p, ok := m.(proto.Message)
	if !ok {
		return false
	}
	t, ok := p.ProtoReflect().Type().(*protoimpl.MessageInfo)
	return ok && t.GoReflectType == reflect.TypeOf(m)
}

// An outbox has the messages that gRPC sends.
type outbox struct {
	own      bool // the stream is gRPC's, so that no interceptor sees what is packed
	prepared grpc.PreparedMsg
}

// A stream of gRPC is of a type of package grpc itself. Interceptors of the server
// outside of the stack hand in types of their own.
func (b *outbox) init(stream grpc.ServerStream) {
	t := reflect.TypeOf(stream)
	b.own = t.Kind() == reflect.Pointer && t.Elem().PkgPath() == reflect.TypeFor[grpc.Server]().PkgPath()
}

// pack returns a message that is m and does not change when m does: encoded, or
// else a copy. Where m can neither be encoded nor copied it returns m itself.
// The outbox's PreparedMsg is used again for each message: one SendMsg runs at a time,
// and one that was given up is the last.
func (b *outbox) pack(stream grpc.ServerStream, m any) any {
	if b.encode(stream, m) {
		return &b.prepared
	}
	switch m := m.(type) {
	case *grpc.PreparedMsg:
		return new(*m)
	case proto.Message:
		if !m.ProtoReflect().IsValid() {
			return m
		}
		if c := proto.Clone(m); reflect.TypeOf(c) == reflect.TypeOf(m) {
			return c
		}
	}
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return m
	}
	c := reflect.New(v.Type().Elem())
	c.Elem().Set(v.Elem())
	return c.Interface()
}

// encode encodes m, and reports whether it could. What cannot be encoded is left
// for gRPC to report, and so is what a grpc.PreparedMsg would not be right for: one
// is compressed as the request was, while a handler may have set another
// compressor; and a trace of golang.org/x/net keeps the message.
func (b *outbox) encode(stream grpc.ServerStream, m any) bool {
	if _, prepared := m.(*grpc.PreparedMsg); prepared || !b.own || grpc.EnableTracing {
		return false
	}
	c, ok := grpc.ServerTransportStreamFromContext(stream.Context()).(compressing)
	if !ok || c.SendCompress() != strings.TrimSuffix(c.RecvCompress(), encoding.Identity) {
		return false
	}
	return b.prepared.Encode(stream, m) == nil
}

// compressing is what a stream of gRPC knows of its compressors.
type compressing interface {
	SendCompress() string
	RecvCompress() string
}
