package balance

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// kinds knows which methods are streams, from the descriptors of the generated
// code that is linked in: a picker is told the name of a method and no more. An
// unknown method is taken for unary.
type kinds struct {
	known atomic.Pointer[map[string]bool]
	mu    sync.Mutex // of those who add
}

// maxKinds bounds the memory: a client that makes up method names gets the
// slower lookup.
const maxKinds = 4096

// isStream reports whether a full method, "/package.Service/Method", is one.
func (k *kinds) isStream(method string) bool {
	if known := k.known.Load(); known != nil {
		if stream, ok := (*known)[method]; ok {
			return stream
		}
	}
	stream := lookUp(method)
	k.add(method, stream)
	return stream
}

func (k *kinds) add(method string, stream bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	next := map[string]bool{}
	if known := k.known.Load(); known != nil {
		if len(*known) >= maxKinds {
			return
		}
		maps.Copy(next, *known)
	}
	next[strings.Clone(method)] = stream
	k.known.Store(&next)
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
