package serviceconfig

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret/policy"
	"github.com/turret-go/turret/policy/internal/tree"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// A Note says what of a service config the policy does not do, or does
// otherwise.
type Note struct {
	// At is where it is written.
	At policy.Position `json:"at"`
	// Path is the field of the service config: "methodConfig[0].retryPolicy".
	Path string `json:"path"`
	// Text says what becomes of it.
	Text string `json:"text"`
}

// String returns the note in one line, which begins with the position.
func (n Note) String() string {
	if at := n.At.String(); at != "" {
		return at + ": " + n.Path + " " + n.Text
	}
	return n.Path + " " + n.Text
}

// Import makes a policy of a service config in JSON, which is what the file of
// that name holds. Each methodConfig becomes a rule: config-0, config-1 ... The
// error is a policy.Errors with all that is wrong, by position: what is not valid
// JSON, an unknown field, a key or a method that is given twice, a value that gRPC
// would refuse or that means nothing. Each loss is a note.
//
//	timeout                     timeout and stream_timeout
//	waitForReady                wait_for_ready
//	retryPolicy                 retry, with resend: ALWAYS: its codes mean that nothing was carried out
//	no retryPolicy              retry: {off: true}: gRPC does not take it from a less specific config
//	hedgingPolicy               hedge, and idempotency: IDEMPOTENT
//	retryThrottling             the budget of each retry, approximately
//	the rest                    stays with gRPC, and is noted
func Import(name string, data []byte) (policy.Document, []Note, error) {
	root, errs := tree.Parse(name, data)
	i := &importer{reading: reading{errs: errs}, methods: map[string]named{}, positions: map[string]policy.Position{}}
	if root == nil {
		return policy.Document{}, nil, errs.Err()
	}
	p := i.config(root)
	if err := i.errs.Err(); err != nil {
		return policy.Document{}, nil, err
	}
	return policy.Document{Name: name, Policy: p, Positions: i.positions}, i.notes, nil
}

// An importer makes a policy.
type importer struct {
	reading

	positions map[string]policy.Position

	methods map[string]named // patterns that were given
	budget  *policyv1.Budget // of retryThrottling
	jitter  bool             // the note on jitter was made
}

// named is where a pattern was given.
type named struct {
	path string
	at   policy.Position
}

// config reads the whole service config.
func (i *importer) config(root *tree.Node) *policyv1.Policy {
	p := new(policyv1.Policy)
	whole := i.fields(field{at: root.At, node: root}, "ServiceConfig",
		"loadBalancingPolicy", "loadBalancingConfig", "methodConfig", "retryThrottling", "healthCheckConfig")
	for _, name := range []string{"loadBalancingPolicy", "loadBalancingConfig", "healthCheckConfig"} {
		if f, ok := whole[name]; ok {
			i.note(f, "is not part of a policy: keep it in the service config")
		}
	}
	if f, ok := whole["retryThrottling"]; ok {
		i.throttling(f)
	}
	f, ok := whole["methodConfig"]
	if !ok {
		i.note(field{at: root.At, path: "methodConfig"}, "is missing: there is nothing to carry over")
		return p
	}
	for n, item := range i.items(f) {
		i.methodConfig(p, item, n)
	}
	i.separate(p)
	return p
}

// throttling reads retryThrottling, which becomes the budget of each retry.
func (i *importer) throttling(f field) {
	all := i.fields(f, "RetryThrottlingPolicy", "maxTokens", "tokenRatio")
	tokens, hasTokens := i.number(all, "maxTokens")
	ratio, hasRatio := i.number(all, "tokenRatio")
	switch {
	case hasTokens && (tokens <= 0 || tokens > 1000):
		i.problem(all["maxTokens"], "is %v, must be above 0 and at most 1000", tokens)
	case hasRatio && ratio <= 0:
		i.problem(all["tokenRatio"], "is %v, must be above 0", ratio)
	case !hasTokens || !hasRatio:
		i.note(f, "has no maxTokens or no tokenRatio: it is left out")
	default:
		i.budget = &policyv1.Budget{Ratio: new(ratio)}
		i.note(f, "becomes a budget of ratio %v in each rule with a retry: gRPC counts the failures of all methods together, and stops at half of maxTokens", ratio)
	}
}

// methodConfig reads one methodConfig into a rule.
func (i *importer) methodConfig(p *policyv1.Policy, f field, n int) {
	all := i.fields(f, "MethodConfig", "name", "waitForReady", "timeout", "maxRequestMessageBytes",
		"maxResponseMessageBytes", "retryPolicy", "hedgingPolicy")
	for _, name := range []string{"maxRequestMessageBytes", "maxResponseMessageBytes"} {
		if f, ok := all[name]; ok {
			i.note(f, "is not part of a policy: use grpc.MaxCallSendMsgSize and grpc.MaxCallRecvMsgSize")
		}
	}
	path := fmt.Sprintf("rules[%d]", len(p.GetRules()))
	r := &policyv1.Rule{Name: fmt.Sprintf("config-%d", n), Client: &policyv1.Client{}}
	r.Methods = i.names(f, all["name"], path)
	i.positions[path] = f.at
	at := func(name, block string) field {
		found := all[name]
		i.positions[path+".client."+block] = found.at
		return found
	}
	if f, ok := all["timeout"]; ok {
		if d := i.duration(f); d != nil {
			r.Client.Timeout, r.Client.StreamTimeout = d, d
			at("timeout", "timeout")
			at("timeout", "stream_timeout")
		}
	}
	if f, ok := all["waitForReady"]; ok {
		r.Client.WaitForReady = i.boolean(f)
		at("waitForReady", "wait_for_ready")
	}
	_, retries := all["retryPolicy"]
	_, hedges := all["hedgingPolicy"]
	switch {
	case retries && hedges:
		i.problem(all["hedgingPolicy"], "is given beside retryPolicy, must not: one of them must go")
	case retries:
		r.Client.Retry = i.retry(at("retryPolicy", "retry"))
	default:
		r.Client.Retry = &policyv1.Retry{Off: true}
		if hedges {
			r.Client.Hedge = i.hedge(at("hedgingPolicy", "hedge"))
			r.Idempotency = policyv1.Idempotency_IDEMPOTENCY_IDEMPOTENT
		}
	}
	if len(r.GetMethods()) > 0 {
		p.Rules = append(p.Rules, r)
	}
}

// names returns the patterns of a methodConfig.
func (i *importer) names(config, f field, path string) (patterns []string) {
	for _, item := range i.items(f) {
		all := i.fields(item, "Name", "service", "method")
		service, method := i.text(all, "service"), i.text(all, "method")
		pattern := "/" + service + "/" + method
		switch {
		case service == "" && method == "":
			pattern = "/*"
		case service == "":
			i.problem(item, "has the method %s and no service, must have both", tree.Quote(method))
			continue
		case !isName(service, ".") || method != "" && !isName(method, ""):
			i.note(item, "is %s, which is the name of no method: gRPC uses it for nothing, and it is left out", tree.Quote(pattern))
			continue
		case method == "":
			pattern += "*"
		}
		if first, twice := i.methods[pattern]; twice {
			i.problem(item, "is %s, and so is %s (%v): a method must have one config", tree.Quote(pattern), first.path, first.at)
			continue
		}
		i.methods[pattern] = named{item.path, item.at}
		i.positions[fmt.Sprintf("%s.methods[%d]", path, len(patterns))] = item.at
		patterns = append(patterns, pattern)
	}
	if len(patterns) == 0 {
		i.note(config, "names no method: gRPC uses it for nothing, and it is left out")
	}
	return patterns
}

// isName reports whether s may be the name of a method, or with separators of a
// service.
func isName(s, separators string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"+separators) == "" && s != ""
}

// separate takes from each rule what it would have from a less specific one: in
// a service config the most specific config holds alone.
func (i *importer) separate(p *policyv1.Policy) {
	timeouts, waits, hedges := false, false, false
	for _, r := range p.GetRules() {
		timeouts = timeouts || r.GetClient().GetTimeout() != nil
		waits = waits || r.GetClient().WaitForReady != nil
		hedges = hedges || r.GetClient().GetHedge() != nil
	}
	for _, r := range p.GetRules() {
		c := r.GetClient()
		if !i.overlaps(r) {
			continue
		}
		if timeouts && c.GetTimeout() == nil {
			c.Timeout, c.StreamTimeout = durationpb.New(0), durationpb.New(0)
		}
		if waits && c.WaitForReady == nil {
			c.WaitForReady = new(false)
		}
		if hedges && c.GetHedge() == nil {
			c.Hedge = &policyv1.Hedge{Off: true}
		}
	}
}

// overlaps reports whether the config has a less specific pattern than one of r.
func (i *importer) overlaps(r *policyv1.Rule) bool {
	_, all := i.methods["/*"]
	for _, pattern := range r.GetMethods() {
		if pattern == "/*" {
			continue
		}
		service := pattern[:strings.LastIndexByte(pattern, '/')] + "/*"
		if _, wider := i.methods[service]; all || wider && service != pattern {
			return true
		}
	}
	return false
}
