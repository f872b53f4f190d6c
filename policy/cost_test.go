package policy_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/policy"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/retry"
)

const fiveBlocks = "timeout: 1h, retry: {resend: ALWAYS}, breaker: {}, rate_limit: {requests: 1000000000}, limit: {max: 1000000}"

// byHand is the layers of fiveBlocks.
func byHand() *interceptors.Stack {
	named := func(l interceptors.Layer) interceptors.Layer { return interceptors.Named("r", l) }
	return interceptors.New(
		named(interceptors.Timeout(time.Hour)),
		named(interceptors.Retry(retry.Config{})),
		named(interceptors.Breaker(breaker.Config{})),
		named(interceptors.RateLimit(limit.PerSecond(1_000_000_000), limit.Queue{})),
		named(interceptors.ConcurrencyLimit(1_000_000, limit.Queue{})),
	)
}

// caller returns a function that makes a unary RPC through a stack, to an invoker
// that does nothing.
func caller(s *interceptors.Stack, method string) func(ctx context.Context) {
	unary := s.UnaryClient()
	req, reply := new(echov1.UnaryRequest), new(echov1.UnaryResponse)
	invoke := func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }
	return func(ctx context.Context) {
		if err := unary(ctx, method, req, reply, nil, invoke); err != nil {
			panic(err)
		}
	}
}

func pass() *interceptors.Stack {
	return interceptors.New(func(inner interceptors.Service) interceptors.Service { return passing{inner} })
}

type passing struct{ interceptors.Service }

func TestPolicyAllocatesAsTheStackByHand(t *testing.T) {
	p := compile(t, rules("client: {"+fiveBlocks+"}"), policy.Config{})
	nothing := compile(t, "rules:\n- {name: r, methods: [\"/grpc.health.v1.Health/*\"], client: {timeout: 1s}}\n", policy.Config{})
	for _, tt := range []struct {
		name         string
		policy, hand *interceptors.Stack
	}{
		{"five blocks", interceptors.New(p.Client()), byHand()},
		{"no block", interceptors.New(nothing.Client()), pass()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			allocs := func(s *interceptors.Stack) float64 {
				call := caller(s, echoService+"/Unary")
				return testing.AllocsPerRun(200, func() { call(t.Context()) })
			}
			if got, want := allocs(tt.policy), allocs(tt.hand); got > want {
				t.Errorf("%v allocations, the stack by hand has %v", got, want)
			}
		})
	}
}

// many returns the descriptors of n methods, ten in each service.
func many(tb testing.TB, n int) *policy.Catalogue {
	tb.Helper()
	file := &descriptorpb.FileDescriptorProto{
		Name: new("many.proto"), Package: new("many"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Empty")}},
	}
	for i := range n / 10 {
		s := &descriptorpb.ServiceDescriptorProto{Name: new(fmt.Sprintf("S%d", i))}
		for j := range 10 {
			s.Method = append(s.Method, &descriptorpb.MethodDescriptorProto{
				Name: new(fmt.Sprintf("M%d", j)), InputType: new(".many.Empty"), OutputType: new(".many.Empty"),
			})
		}
		file.Service = append(file.Service, s)
	}
	files, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{file}})
	if err != nil {
		tb.Fatal(err)
	}
	return policy.InFiles(files)
}

// manyRules is a policy with a rule for each of n services.
func manyRules(n int) string {
	var b strings.Builder
	b.WriteString("rules:\n- {name: all, methods: [\"/*\"], client: {" + fiveBlocks + "}}\n")
	for i := range n {
		fmt.Fprintf(&b, "- {name: r%d, methods: [\"/many.S%d/*\"], client: {limit: {max: %d}}}\n", i, i, i+1)
	}
	return b.String()
}

func BenchmarkPolicy(b *testing.B) {
	one := compile(b, rules("client: {"+fiveBlocks+"}"), policy.Config{})
	large := compile(b, manyRules(1000), policy.Config{Methods: many(b, 10_000)})
	nothing := compile(b, "rules:\n- {name: r, methods: [\"/a.B/*\"], client: {timeout: 1s}}\n", policy.Config{UnknownMethods: true})
	for _, bb := range []struct {
		name   string
		stack  *interceptors.Stack
		method string
	}{
		{"hand", byHand(), echoService + "/Unary"},
		{"policy", interceptors.New(one.Client()), echoService + "/Unary"},
		{"policy of 10000 methods", interceptors.New(large.Client()), "/many.S777/M3"},
		{"nothing by hand", pass(), echoService + "/Unary"},
		{"nothing", interceptors.New(nothing.Client()), echoService + "/Unary"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			call := caller(bb.stack, bb.method)
			b.ReportAllocs()
			for b.Loop() {
				call(b.Context())
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	catalogue := many(b, 10_000)
	document := parse(b, manyRules(1000))
	b.Run("New", func(b *testing.B) {
		for b.Loop() {
			if _, err := policy.New(document, policy.Config{Methods: catalogue}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Load", func(b *testing.B) {
		p, err := policy.New(document, policy.Config{Methods: catalogue})
		if err != nil {
			b.Fatal(err)
		}
		stack := interceptors.New(p.Client())
		for b.Loop() {
			if _, err := p.Load(document); err != nil {
				b.Fatal(err)
			}
		}
		_ = stack
	})
}

// BenchmarkHeld reports what a policy of 1,000 rules and 10,000 methods holds, with
// one stack of each side.
func BenchmarkHeld(b *testing.B) {
	catalogue, document := many(b, 10_000), parse(b, manyRules(1000))
	for b.Loop() {
		before := heap()
		p, err := policy.New(document, policy.Config{Methods: catalogue})
		if err != nil {
			b.Fatal(err)
		}
		stacks := []*interceptors.Stack{interceptors.New(p.Client()), interceptors.New(p.Server())}
		b.ReportMetric(float64(heap()-before)/1e6, "held-MB")
		runtime.KeepAlive(stacks)
	}
}

// BenchmarkShadow compares RPCs without a rule in shadow, with one that refuses
// nothing, and with one that would refuse all of them.
func BenchmarkShadow(b *testing.B) {
	const enforced = "client: {" + fiveBlocks + "}"
	for _, bb := range []struct{ name, text string }{
		{"none", rules(enforced)},
		{"passes", rules(enforced, "mode: SHADOW, client: {limit: {max: 100}}")},
		{"would refuse", rules(enforced, "mode: SHADOW, client: {limit: {max: 0}}")},
	} {
		b.Run(bb.name, func(b *testing.B) {
			call := caller(interceptors.New(compile(b, bb.text, policy.Config{}).Client()), echoService+"/Unary")
			b.ReportAllocs()
			for b.Loop() {
				call(b.Context())
			}
		})
	}
}

const (
	handImports = "\t\"time\"\n\t\"github.com/turret-go/turret/adaptive\"\n\t\"github.com/turret-go/turret/breaker\"\n" +
		"\t\"github.com/turret-go/turret/hedge\"\n\t\"github.com/turret-go/turret/limit\"\n\t\"github.com/turret-go/turret/retry\"\n\t\"github.com/turret-go/turret/throttle\"\n"
	handLayers = "\tlayers = append(layers, interceptors.Timeout(time.Second), interceptors.Retry(retry.Config{}), interceptors.Hedge(hedge.Config{}),\n" +
		"\t\tinterceptors.Threshold(), interceptors.Criticality(interceptors.CriticalityConfig{}), interceptors.Throttle(throttle.Config{}), interceptors.Breaker(breaker.Config{}),\n" +
		"\t\tinterceptors.RateLimit(limit.PerSecond(1), limit.Queue{}), interceptors.ConcurrencyLimit(1, limit.Queue{}),\n" +
		"\t\tinterceptors.AdaptiveLimit(adaptive.Config{}), interceptors.PerKey(nil, limit.KeyedConfig{}))\n"
)

// BenchmarkBinary builds a program with a policy from a file, one with the same
// layers by hand, and one with none of them, and reports by how much the first is
// larger than each.
func BenchmarkBinary(b *testing.B) {
	build := func(imports, use string) int64 {
		b.Helper()
		dir := b.TempDir()
		main, binary := filepath.Join(dir, "main.go"), filepath.Join(dir, "main")
		code := "package main\n\nimport (\n\t\"os\"\n\t\"google.golang.org/grpc\"\n\t\"github.com/turret-go/turret/interceptors\"\n" +
			"\techov1 \"github.com/turret-go/turret/proto/turret/echo/v1\"\n" + imports + ")\n\n" +
			"func main() {\n\tlayers := []interceptors.Layer{interceptors.Recover()}\n" + use +
			"\ts := grpc.NewServer(interceptors.New(layers...).ServerOptions()...)\n\techov1.RegisterEchoServiceServer(s, nil)\n\t_ = os.Args\n}\n"
		if err := os.WriteFile(main, []byte(code), 0o600); err != nil {
			b.Fatal(err)
		}
		if out, err := exec.CommandContext(b.Context(), "go", "build", "-o", binary, main).CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		info, err := os.Stat(binary)
		if err != nil {
			b.Fatal(err)
		}
		return info.Size()
	}
	for b.Loop() {
		bare := build("", "")
		hand := build(handImports, handLayers)
		whole := build("\t\"github.com/turret-go/turret/policy\"\n\t\"github.com/turret-go/turret/policy/policyfile\"\n",
			"\tdoc, _ := policyfile.Load(os.Args[1])\n\tp, _ := policy.New(doc, policy.Config{})\n\tlayers = append(layers, p.Server(), p.Client())\n")
		b.ReportMetric(float64(whole-hand)/1e6, "more-than-by-hand-MB")
		b.ReportMetric(float64(whole-bare)/1e6, "more-than-without-MB")
		b.ReportMetric(float64(bare)/1e6, "without-MB")
	}
}
