// Package render writes the messages of a policy as YAML.
package render

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// Flow returns m in one line of YAML: {max: 100, queue: {max: 50, timeout:
// 100ms}}. Fields have the order of the schema. A google.protobuf.Duration is
// written as Go does: 1m30s.
func Flow(m protoreflect.Message) string {
	if m.Descriptor().FullName() == "google.protobuf.Duration" {
		return duration(m)
	}
	var parts []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if m.Has(field) {
			parts = append(parts, field.TextName()+": "+Value(field, m.Get(field)))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// Value returns the value v of field in one line of YAML.
func Value(field protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if !field.IsList() {
		return single(field, v)
	}
	list := v.List()
	parts := make([]string, list.Len())
	for i := range parts {
		parts[i] = single(field, list.Get(i))
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

func single(field protoreflect.FieldDescriptor, v protoreflect.Value) string {
	switch field.Kind() {
	case protoreflect.MessageKind:
		return Flow(v.Message())
	case protoreflect.EnumKind:
		return Enum(field.Enum(), v.Enum())
	case protoreflect.StringKind:
		return Text(v.String())
	case protoreflect.DoubleKind:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	default:
		return v.String()
	}
}

// Enum returns the name of a value without the prefix of its enum.
func Enum(e protoreflect.EnumDescriptor, n protoreflect.EnumNumber) string {
	value := e.Values().ByNumber(n)
	if value == nil {
		return strconv.Itoa(int(n))
	}
	return strings.TrimPrefix(string(value.Name()), strings.TrimSuffix(string(e.Values().Get(0).Name()), "UNSPECIFIED"))
}

// Text returns s in double quotes, as YAML and JSON read them.
func Text(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f || r > 0x7f && !strconv.IsPrint(r):
			if r > 0xffff {
				fmt.Fprintf(&b, `\U%08x`, r)
			} else {
				fmt.Fprintf(&b, `\u%04x`, r)
			}
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func duration(m protoreflect.Message) string {
	fields := m.Descriptor().Fields()
	d := time.Duration(m.Get(fields.ByName("seconds")).Int())*time.Second + time.Duration(m.Get(fields.ByName("nanos")).Int())
	return Duration(d)
}

// Duration returns d as time.Duration.String does, without units that are zero:
// 1h for 1h0m0s.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
