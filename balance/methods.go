package balance

import (
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/turret-go/turret/internal/boundedmap"
)

// methods says which methods are streams. It looks in the descriptors of the
// generated code that is linked in, because a picker gets only the name of a
// method. A method without a descriptor counts as unary.
type methods struct {
	// recent holds the methods that were asked for last, by a hash: the name of a
	// method is nearly always the same constant, so comparing it costs less than
	// a map.
	// A slot is replaced by whatever method was asked for last.
	recent [64]atomic.Pointer[methodKind]
	known  boundedmap.Map[string, *methodKind]
}

// A methodKind is whether a method is a stream.
type methodKind struct {
	method string
	stream bool
}

func newMethods() *methods {
	return &methods{known: boundedmap.Map[string, *methodKind]{Max: maxMethods}}
}

func newMethodKind(method string) *methodKind { return &methodKind{method, lookUp(method)} }

// maxMethods bounds the memory. A client that makes up method names pays for a
// lookup each time.
const maxMethods = 4096

// maxName is the longest name that is kept: a proxy may pass on names of
// megabytes.
const maxName = 1 << 10

// isStream reports whether a full method, "/package.Service/Method", is a stream.
func (m *methods) isStream(method string) bool {
	if method == "" {
		return false
	}
	if len(method) > maxName {
		return lookUp(method)
	}
	// The length and the last byte are a poor hash, and free: two methods that share a slot
	// cost a look into the map.
	slot := &m.recent[(len(method)*7+int(method[len(method)-1]))%len(m.recent)]
	if recent := slot.Load(); recent != nil && recent.method == method {
		return recent.stream
	}
	found, ok := m.known.Load(method)
	if !ok {
		found = m.known.Get(strings.Clone(method), newMethodKind) // method may be a part of a large string
	}
	slot.Store(found)
	return found.stream
}

// lookUp looks a method up in the registry of linked descriptors, which takes a lock.
func lookUp(method string) bool {
	name := strings.ReplaceAll(strings.TrimPrefix(method, "/"), "/", ".")
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return false
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	return ok && (m.IsStreamingClient() || m.IsStreamingServer())
}
