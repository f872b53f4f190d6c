package balance

import (
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/turret-go/turret/internal/memo"
)

// kinds knows which methods are streams, from the descriptors of the generated
// code that is linked in: a picker is told the name of a method and no more. An
// unknown method is taken for unary.
type kinds struct {
	// recent are the methods that were asked for last, by a hash: a method's
	// name is nearly always the same constant, so that comparing it is cheaper
	// than looking it up in a map.
	recent [64]atomic.Pointer[kind]
	known  memo.Map[string, *kind]
}

type kind struct {
	method string
	stream bool
}

func newKinds() *kinds { return &kinds{known: memo.Map[string, *kind]{Max: maxKinds}} }

func newKind(method string) *kind { return &kind{method, lookUp(method)} }

// maxKinds bounds the memory: a client that makes up method names gets the
// slower lookup.
const maxKinds = 4096

// maxName is the longest name that is remembered, for the same reason: a proxy
// passes on names of megabytes.
const maxName = 1 << 10

// isStream reports whether a full method, "/package.Service/Method", is one.
func (k *kinds) isStream(method string) bool {
	if method == "" {
		return false
	}
	if len(method) > maxName {
		return lookUp(method)
	}
	slot := &k.recent[(len(method)*7+int(method[len(method)-1]))%len(k.recent)]
	if recent := slot.Load(); recent != nil && recent.method == method {
		return recent.stream
	}
	found, ok := k.known.Load(method)
	if !ok {
		found = k.known.Get(strings.Clone(method), newKind) // it may be a part of something large
	}
	slot.Store(found)
	return found.stream
}

func lookUp(method string) bool {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return false
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	return ok && (m.IsStreamingClient() || m.IsStreamingServer())
}
