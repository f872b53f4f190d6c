package policy

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/turret-go/turret/interceptors"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A Method is a method that a program knows by its .proto file.
type Method struct {
	// Name is the full method: "/package.Service/Method".
	Name string
	// Kind is the kind of its RPCs.
	Kind interceptors.Kind
	// Idempotency is what the option idempotency_level says.
	Idempotency policyv1.Idempotency
	// File is the path of the .proto file.
	File string
	// Descriptor is the method's descriptor.
	Descriptor protoreflect.MethodDescriptor

	service string
}

// A Catalogue is the methods that a program knows, with what their .proto files
// say of them. It does not change, and may be used concurrently.
type Catalogue struct {
	methods  []*Method // by name
	byName   map[string]*Method
	services map[string][]*Method
	options  []option
}

// An option is what a .proto file says of a method or a service.
type option struct {
	pattern string
	at      Position
	options *policyv1.Options
}

// Linked returns the methods of all .proto files whose generated code is linked
// into the program by now.
func Linked() *Catalogue { return InFiles(protoregistry.GlobalFiles) }

// InFiles returns the methods of files, for example those of a
// google.protobuf.FileDescriptorSet ([protodesc.NewFiles]).
//
// [protodesc.NewFiles]: https://pkg.go.dev/google.golang.org/protobuf/reflect/protodesc#NewFiles
func InFiles(files *protoregistry.Files) *Catalogue {
	c := &Catalogue{byName: map[string]*Method{}, services: map[string][]*Method{}}
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			c.addService(file.Services().Get(i))
		}
		return true
	})
	slices.SortFunc(c.methods, func(a, b *Method) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(c.options, func(a, b option) int { return cmp.Compare(a.pattern, b.pattern) })
	return c
}

func (c *Catalogue) addService(service protoreflect.ServiceDescriptor) {
	name := string(service.FullName())
	c.services[name] = nil
	c.addOptions("/"+name+"/*", service, policyv1.E_Service)
	for i := range service.Methods().Len() {
		d := service.Methods().Get(i)
		m := &Method{
			Name:        "/" + name + "/" + string(d.Name()),
			Kind:        kindOf(d),
			Idempotency: levelOf(d),
			File:        d.ParentFile().Path(),
			Descriptor:  d,
			service:     name,
		}
		c.methods = append(c.methods, m)
		c.byName[m.Name] = m
		c.services[name] = append(c.services[name], m)
		c.addOptions(m.Name, d, policyv1.E_Method)
	}
}

func (c *Catalogue) addOptions(pattern string, d protoreflect.Descriptor, extension protoreflect.ExtensionType) {
	options := d.Options()
	if options == nil || !proto.HasExtension(options, extension) {
		return
	}
	location := d.ParentFile().SourceLocations().ByDescriptor(d)
	at := Position{File: d.ParentFile().Path()}
	if location.EndLine > 0 || location.EndColumn > 0 {
		at.Line, at.Column = location.StartLine+1, location.StartColumn+1
	}
	c.options = append(c.options, option{pattern, at, proto.GetExtension(options, extension).(*policyv1.Options)})
}

func kindOf(d protoreflect.MethodDescriptor) interceptors.Kind {
	switch {
	case d.IsStreamingClient() && d.IsStreamingServer():
		return interceptors.KindBidiStream
	case d.IsStreamingClient():
		return interceptors.KindClientStream
	case d.IsStreamingServer():
		return interceptors.KindServerStream
	default:
		return interceptors.KindUnary
	}
}

func levelOf(d protoreflect.MethodDescriptor) policyv1.Idempotency {
	options, _ := d.Options().(*descriptorpb.MethodOptions)
	switch options.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return policyv1.Idempotency_IDEMPOTENCY_NO_SIDE_EFFECTS
	case descriptorpb.MethodOptions_IDEMPOTENT:
		return policyv1.Idempotency_IDEMPOTENCY_IDEMPOTENT
	case descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN:
	}
	return policyv1.Idempotency_IDEMPOTENCY_UNSPECIFIED
}

// Methods returns all methods by name.
func (c *Catalogue) Methods() iter.Seq[*Method] { return slices.Values(c.methods) }

// Method returns the method of that name, nil if there is none.
func (c *Catalogue) Method(name string) *Method { return c.byName[name] }

// matching returns the methods that p matches.
func (c *Catalogue) matching(p *pattern) []*Method {
	switch {
	case p.level == levelAll:
		return c.methods
	case p.level.ofMethod():
		if m := c.byName[p.text]; m != nil {
			return []*Method{m}
		}
		return nil
	default:
		return c.services[p.service]
	}
}

// httpRule is the number of the option google.api.http, and getRule that of the
// field get in it.
const (
	httpRule = 72295728
	getRule  = 2
)

// Gets is a [Config.Idempotency] that says NO_SIDE_EFFECTS of the methods whose
// option google.api.http binds them to GET, by
// https://google.aip.dev/131 and its neighbors. It reads the option by its number
// and needs no generated code of it.
func Gets(m *Method) policyv1.Idempotency {
	wire, err := proto.Marshal(m.Descriptor.Options())
	if err == nil && hasBytes(fieldBytes(wire, httpRule), getRule) {
		return policyv1.Idempotency_IDEMPOTENCY_NO_SIDE_EFFECTS
	}
	return policyv1.Idempotency_IDEMPOTENCY_UNSPECIFIED
}

// fieldBytes returns the last bytes that wire has for a field.
func fieldBytes(wire []byte, number protowire.Number) (found []byte) {
	for len(wire) > 0 {
		n, kind, tag := protowire.ConsumeTag(wire)
		if tag < 0 {
			return nil
		}
		size := protowire.ConsumeFieldValue(n, kind, wire[tag:])
		if size < 0 {
			return nil
		}
		if n == number && kind == protowire.BytesType {
			found, _ = protowire.ConsumeBytes(wire[tag:])
		}
		wire = wire[tag+size:]
	}
	return found
}

func hasBytes(wire []byte, number protowire.Number) bool { return len(fieldBytes(wire, number)) > 0 }

// serviceOf returns the service of a full method. As in gRPC, the method is what
// follows the last slash.
func serviceOf(method string) string {
	i := strings.LastIndexByte(method, '/')
	if i < 1 || method[0] != '/' {
		return ""
	}
	return method[1:i]
}
