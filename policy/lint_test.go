package policy_test

import (
	"strings"
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/policy"
)

func TestLintLooksIntoPolicies(t *testing.T) {
	p := compile(t, strings.Replace(guide, ", timeout: 0s", "", 1), policy.Config{})
	if got := interceptors.New(p.Client()).Lint(interceptors.SideClient); len(got) > 0 {
		t.Errorf("the client has findings %v", got)
	}
	if got := interceptors.New(interceptors.Recover(), p.Server()).Lint(interceptors.SideServer); len(got) > 0 {
		t.Errorf("the server has findings %v", got)
	}
	got := interceptors.New(interceptors.ConcurrencyLimit(1, limit.Queue{}), p.Client()).Lint(interceptors.SideClient)
	if len(got) != 1 || got[0].Check != "limit-outside-retry" {
		t.Errorf("a limit outside of the policy has findings %v", got)
	}
	stuck := compile(t, rules("client: {timeout: 1s, retry: {}}"), policy.Config{})
	got = interceptors.New(stuck.Client()).Lint(interceptors.SideClient)
	if len(got) != 1 || got[0].Check != "no-attempt-timeout" {
		t.Errorf("a policy without attempt_timeout has findings %v", got)
	}
}

func TestPolicyDescribesItsGates(t *testing.T) {
	p := compile(t, guide, policy.Config{})
	stack := interceptors.New(p.Client())
	node := turret.Describe(stack, 0)
	if len(node.Children) != 1 || node.Children[0].Kind != "policy" {
		t.Fatalf("the stack is %+v", node)
	}
	var kinds []string
	for _, child := range node.Children[0].Children {
		kinds = append(kinds, child.Name+" "+child.Kind)
	}
	const want = "everything threshold, everything retry_budget, everything hedge, everything concurrency_limit"
	if got := strings.Join(kinds, ", "); got != want {
		t.Errorf("the policy has %s, want %s", got, want)
	}
	if text := stack.String(); !strings.Contains(text, "everything: client.limit: concurrency limit: 0 of 100 in flight") {
		t.Errorf("the stack prints\n%s", text)
	}
}
