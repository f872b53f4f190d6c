package policy

import (
	"github.com/turret-go/turret/interceptors"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A Config says what a policy stands on. The zero value is a good default.
type Config struct {
	// Methods is what the program knows of its methods. nil means [Linked] at the
	// time of [New].
	Methods *Catalogue
	// UnknownMethods allows rules to name methods and services that are not in
	// Methods. Otherwise that is an error: it is most often a slip of the pen, and
	// the rule would have no effect. Proxies, which have no generated code, need it.
	UnknownMethods bool
	// Idempotency says what carrying out a request twice does, of methods whose
	// option idempotency_level does not say it. It is asked when a policy is
	// compiled, and must always answer the same. IDEMPOTENCY_UNSPECIFIED leaves
	// the answer to less specific rules. nil means that of no method. [Gets] reads
	// google.api.http.
	Idempotency func(*Method) policyv1.Idempotency
	// PerAttempt are layers of clients around each attempt of an RPC, inside of
	// retry and hedge and outside of all other blocks: a Trace, a Metrics. Nil
	// layers are skipped.
	PerAttempt []interceptors.Layer
}

func (c Config) withDefaults() Config {
	if c.Methods == nil {
		c.Methods = Linked()
	}
	return c
}
