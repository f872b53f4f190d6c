package policy_test

import (
	"flag"
	"os"
	"strings"
	"testing"

	_ "google.golang.org/grpc/health/grpc_health_v1" // methods that are explained

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with a golden file.
func golden(t *testing.T, name, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s has changed; got\n%s\nwant\n%s", name, text, want)
	}
}

const guide = `rules:
  - name: everything
    methods: ["/*"]
    why: no caller waits for ever
    client:
      timeout: 2s
      attempt_timeout: 500ms
      retry: {max_attempts: 3, codes: [UNAVAILABLE], backoff: {base: 20ms}}
      limit: {max: 100, queue: {max: 100, timeout: 200ms}}
      hedge: {delay: 100ms}
      threshold: {}
    server:
      limit: {max: 200, queue: {max: 50, timeout: 100ms}}
      timeout: 5s
  - name: health
    methods: ["/grpc.health.v1.Health/*"]
    server: {limit: {off: true}}
  - name: echo
    methods: ["/turret.echo.v1.EchoService/*"]
    idempotency: IDEMPOTENT
    client: {stream_timeout: 10m, timeout: 0s}
  - name: try-100-per-second
    mode: SHADOW
    methods: ["/turret.echo.v1.EchoService/*"]
    server: {rate_limit: {requests: 100, burst: 20}}
  - name: "switched-off"
    mode: OFF
    methods: ["/turret.echo.v1.EchoService/*"]
    server: {limit: {max: 0}}
`

func TestExplain(t *testing.T) {
	var b strings.Builder
	p := compile(t, guide, policy.Config{})
	for _, method := range []string{
		echoService + "/Unary", echoService + "/BidiStream", "/grpc.health.v1.Health/Check", echoService + "/Nothing", "/a.B/C", "",
	} {
		b.WriteString(p.Explain(method).String() + "\n\n")
	}
	const ours = `rules:
- {name: everything, methods: ["/*"], client: {timeout: 9s, limit: {max: 10}, retry: {}}}
- {name: shop, methods: ["/shop.v1.Shop/Buy"], client: {retry: {max_attempts: 4}}}
- {name: shops, methods: ["/shop.v1.Shop/*"], client: {breaker: {}}, server: {limit: {max: 1, scope: METHOD}}}
`
	p = compile(t, ours, policy.Config{Methods: shop(t)})
	for _, method := range []string{"Buy", "Look", "Put", "Watch"} {
		b.WriteString(p.Explain("/shop.v1.Shop/"+method).String() + "\n\n")
	}
	b.WriteString("warnings\n" + p.Warnings().Error() + "\n")
	golden(t, "testdata/explain.txt", b.String())
}

// The order of the layers is what the documentation says.
func TestOrder(t *testing.T) {
	got := strings.Join(policy.Order(interceptors.SideClient), " ") + "\n" + strings.Join(policy.Order(interceptors.SideServer), " ")
	const want = "wait_for_ready timeout stream_timeout threshold retry hedge criticality throttle breaker rate_limit attempt_timeout limit\n" +
		"criticality rate_limit per_key adaptive_limit limit timeout stream_timeout"
	if got != want {
		t.Errorf("the order is\n%s\nwant\n%s", got, want)
	}
}
