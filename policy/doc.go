// Package policy carries out what a file says of the RPCs of each method: how
// long they may take, what is tried again, how many are let in. A policy is
// checked as a whole when it is read, explains itself, and is replaced while the
// program runs without losing its limits, budgets and open circuits.
//
//	doc, err := policyfile.Load("policy.yaml")
//	p, err := policy.New(doc, policy.Config{})
//	server := grpc.NewServer(interceptors.New(interceptors.Recover(), p.Server()).ServerOptions()...)
//	conn, err := grpc.NewClient(target, append(interceptors.New(p.Client()).DialOptions(),
//		grpc.WithDisableRetry())...)
//	fmt.Println(p.Explain("/package.Service/Method"))
//	changes, err := p.Load(changed)
//
// # Which rule holds
//
// A rule has blocks: the fields of its client and its server. Of each block a
// method has the one of the most specific rule that has it, whole; blocks are not
// merged. From less to more specific: "/*" in the file, an option of the service
// in its .proto file, "/package.Service/*" in the file, an option of the method in
// its .proto file, "/package.Service/Method" in the file. The order of the rules
// means nothing. off: true, or a timeout of 0s, takes a block away.
//
// A method that the program does not know has what its service's rules and "/*"
// say. Nothing is kept for the names that callers make up.
//
// # State
//
// A limit, a budget or a breaker belongs to the rule in which it is written: all
// methods that have the block from that rule share it, unless its scope is
// METHOD. Each call of [Policy.Client] and [Policy.Server] makes a set of state of
// its own.
//
// # What may be sent again
//
// A request that was, or may have been, carried out is sent again only if the
// method is idempotent: by the option idempotency_level of its .proto file, or by
// the idempotency of a rule. Otherwise retry tries again what was not sent
// (turret.ErrNotReady) and what the server asks for, and hedge has no effect.
// resend: ALWAYS in a retry says that its codes mean that nothing was carried out.
//
// # Order
//
// The order of the layers is fixed, see [Order]. A program that needs another
// one writes its stack in Go, where (*interceptors.Stack).Lint looks at it.
package policy
