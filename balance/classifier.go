package balance

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/internal/misuse"
)

// A Classifier says how a call that ended with err went: see [turret.Outcome]. err
// is nil or has a gRPC status. It may be called concurrently, with locks of gRPC
// held, and must not wait.
type Classifier = func(ctx context.Context, err error) turret.Outcome

// classifiers are those with a name. The map is replaced, never changed.
var (
	classifiersMu sync.Mutex
	classifiers   atomic.Pointer[map[string]Classifier]
)

// RegisterClassifier gives f a name that [Config.Classifier] may have. The policy's
// configuration is text, which a resolver or a control plane may supply; so a
// function must have a name. f may ask [interceptors.Classify] and change some of
// its answers. It is called for calls that ended with an error or a success; what
// was not sent is Unused, and a stream that was cut is a Failure, without asking f.
//
// RegisterClassifier is meant for init functions, but may be called at any time,
// concurrently. It panics if name is empty or is registered already, and if f is
// nil.
func RegisterClassifier(name string, f Classifier) {
	const where = "balance: RegisterClassifier"
	if name == "" {
		misuse.Check(where, invalid("name", name, "not empty"))
	}
	if f == nil {
		misuse.Check(where, invalid("f", nil, "a function"))
	}
	classifiersMu.Lock()
	defer classifiersMu.Unlock()
	all := map[string]Classifier{}
	if old := classifiers.Load(); old != nil {
		all = maps.Clone(*old)
	}
	if _, taken := all[name]; taken {
		misuse.Check(where, invalid("name", name, "a name that is not taken"))
	}
	all[name] = f
	classifiers.Store(&all)
}

// classifierOf returns the classifier of a name, or nil if there is none.
// The empty name is that of the default. It takes no lock.
func classifierOf(name string) Classifier {
	if name == "" {
		return classify
	}
	all := classifiers.Load()
	if all == nil {
		return nil
	}
	return (*all)[name]
}

// classify is the default classifier.
func classify(ctx context.Context, err error) turret.Outcome {
	if err == nil {
		return turret.Success
	}
	return interceptors.Classify(ctx, nil, nil, err)
}
