package interceptors

import (
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// codec is what gRPC's several kinds of codec have in common.
// A codec of the older kind (encoding.Codec, grpc.Codec) returns a slice of bytes; a
// CodecV2 returns buffers, which may come from a pool and are then freed after use.
type codec interface {
	Marshal(v any) (mem.BufferSlice, error)
	Unmarshal(data mem.BufferSlice, v any) error
}

// chosenCodec returns the codec that opts choose, as gRPC would, and its name
// if the choice gives the stream a content-subtype. It returns nil if opts name
// a codec that does not exist.
// Of several options the last one holds, but an option with a codec takes precedence
// over one with a content-subtype, wherever it stands. So
// gRPC does it. An option of an unknown type is not looked into.
func chosenCodec(opts []grpc.CallOption) (c codec, name string) {
	var subtype string
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.ForceCodecV2CallOption:
			c, name = o.CodecV2, o.CodecV2.Name()
		case grpc.ForceCodecCallOption:
			c, name = bytesCodec{o.Codec}, o.Codec.Name()
		case grpc.CustomCodecCallOption:
			c, name = bytesCodec{o.Codec}, ""
		case grpc.ContentSubtypeCallOption:
			subtype = o.ContentSubtype
		}
	}
	if c != nil {
		return c, name
	}
	if subtype == "" {
		return registeredCodec(proto.Name), ""
	}
	return registeredCodec(subtype), subtype
}

// registeredCodec returns the codec that is registered under name, of either kind,
// or nil.
func registeredCodec(name string) codec {
	if c := encoding.GetCodec(name); c != nil {
		return bytesCodec{c}
	}
	if c := encoding.GetCodecV2(name); c != nil {
		return c
	}
	return nil
}

// bytesCodec makes a codec of one of the older kinds.
type bytesCodec struct {
	inner interface {
		Marshal(v any) ([]byte, error)
		Unmarshal(data []byte, v any) error
	}
}

// Marshal returns the bytes as one buffer that belongs to no pool: freeing it does
// nothing.
func (c bytesCodec) Marshal(v any) (mem.BufferSlice, error) {
	data, err := c.inner.Marshal(v)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

// Unmarshal copies data into one slice, because an old codec takes no list of
// buffers. The codec may keep that slice.
func (c bytesCodec) Unmarshal(data mem.BufferSlice, v any) error {
	return c.inner.Unmarshal(data.Materialize(), v)
}

// An encoded message stands for one that cannot be decoded.
// Layers and interceptors see it in place of the message; the kept bytes are sent.
type encoded struct{ data mem.BufferSlice }

func (e *encoded) String() string { return fmt.Sprintf("message of %d bytes", e.data.Len()) }
