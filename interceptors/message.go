package interceptors

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// sameMessage reports whether a and b are the same message: by identity, or as
// values that cannot be changed. It does not use ==, which panics on
// types that cannot be compared, but for pointers, which nearly all are.
func sameMessage(a, b any) bool {
	if samePointer(a, b) {
		return true
	}
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if !va.IsValid() || !vb.IsValid() {
		return va.IsValid() == vb.IsValid()
	}
	if va.Type() != vb.Type() {
		return false
	}
	switch va.Kind() {
	case reflect.Pointer:
		return false
	case reflect.Map, reflect.Chan, reflect.Func:
		return va.UnsafePointer() == vb.UnsafePointer()
	case reflect.Slice:
		return va.UnsafePointer() == vb.UnsafePointer() && va.Len() == vb.Len()
	default:
		return true
	}
}

// samePointer reports whether a and b are the same pointer.
func samePointer(a, b any) bool {
	t := reflect.TypeOf(a)
	return t != nil && t.Kind() == reflect.Pointer && a == b
}

// setMessage makes dst equal to src, and reports whether it could: they are
// messages of the same type. Fields of dst that src does not have are cleared.
// Messages of protobuf contain state that must not be copied by assignment. Others are copied by assignment, which is shallow, so that dst and src
// share what they point to.
func setMessage(dst, src any) bool {
	vd, vs := reflect.ValueOf(dst), reflect.ValueOf(src)
	if !vd.IsValid() || !vs.IsValid() || vd.Type() != vs.Type() || vd.Kind() != reflect.Pointer || vd.IsNil() || vs.IsNil() {
		return false
	}
	d, ok := dst.(proto.Message)
	if !ok {
		vd.Elem().Set(vs.Elem())
		return true
	}
	s := src.(proto.Message)
	if d.ProtoReflect().Descriptor() != s.ProtoReflect().Descriptor() {
		return false // of dynamicpb, where one Go type stands for all messages
	}
	proto.Reset(d)
	proto.Merge(d, s)
	return true
}

// typeName returns the type of m for people: with "nil" if m is a nil pointer.
func typeName(m any) string {
	if v := reflect.ValueOf(m); v.Kind() == reflect.Pointer && v.IsNil() {
		return "nil " + v.Type().String()
	}
	return fmt.Sprintf("%T", m)
}

// newMessage returns an empty message of the type of m; nil if that is not of a
// kind that can be decoded into.
// m may be nil.
func newMessage(m any) any { return newOf(messageType(m)) }

// messageType returns the type of m, for newOf, so that m itself need not be kept:
// it may change. It is nil if there is none: a message of protobuf that wraps
// another one may panic where it is asked.
func messageType(m any) (t any) {
	defer func() {
		if recover() != nil {
			t = nil
		}
	}()
	if p, ok := m.(proto.Message); ok {
		return p.ProtoReflect().Type()
	}
	return reflect.TypeOf(m)
}

// newOf returns an empty message of a type.
func newOf(messageType any) any {
	switch t := messageType.(type) {
	case protoreflect.MessageType:
		return t.New().Interface()
	case reflect.Type:
		if t.Kind() == reflect.Pointer {
			return reflect.New(t.Elem()).Interface()
		}
	}
	return nil
}

// snapshot returns a shallow copy of the message that reply points to, so that
// what an attempt leaves in it can be undone: not every codec resets what it
// unmarshals into. A message that is empty, as nearly all are, needs none, and
// neither does one of protobuf, whose codec resets it.
func snapshot(reply any) any {
	if _, ok := reply.(proto.Message); ok {
		return nil
	}
	v := reflect.ValueOf(reply)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().IsZero() {
		return nil
	}
	return v.Elem().Interface()
}

// restoreReply makes reply what it was before an attempt: was, of snapshot, or empty.
//
// A message of protobuf that wraps another one may panic when it is reset. There is
// nothing to restore in one then.
func restoreReply(reply, was any) {
	defer func() { _ = recover() }()
	v := reflect.ValueOf(reply)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return
	}
	message, ok := reply.(proto.Message)
	switch {
	case ok:
		proto.Reset(message)
	case was == nil:
		v.Elem().SetZero()
	default:
		v.Elem().Set(reflect.ValueOf(was))
	}
}
