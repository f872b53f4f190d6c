package main

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"

	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/metrics"
	echov1 "github.com/turret-go/turret/proto/turret/echo/v1"
	"github.com/turret-go/turret/trace"
)

const calls = 20

// scrape reads the metrics as Prometheus does.
func scrape(t *testing.T, w *world) map[string]*dto.MetricFamily {
	t.Helper()
	response := httptest.NewRecorder()
	w.handler().ServeHTTP(response, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// measured makes n calls, and returns the metrics once the server has ended its part
// of them, also of those that the client has given up. It does so in virtual time,
// where no call is late because the machine is busy.
func measured(t *testing.T, n int) (families map[string]*dto.MetricFamily) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, err := start()
		if err != nil {
			t.Fatal(err)
		}
		defer w.stop()
		stub := echov1.NewEchoServiceClient(w.conn)
		for range n {
			_, _ = stub.Unary(t.Context(), &echov1.UnaryRequest{})
		}
		synctest.Wait()
		families = scrape(t, w)
	})
	return families
}

func TestPrometheusReadsTheMetrics(t *testing.T) {
	families := measured(t, calls)
	for name, labels := range map[string][]string{
		"rpc_client_call_duration_seconds":       {"rpc_method", "rpc_response_status_code", "rpc_system_name", "server_address", "server_port"},
		"rpc_server_call_duration_seconds":       {"rpc_method", "rpc_response_status_code", "rpc_system_name"},
		"turret_client_attempt_duration_seconds": {"rpc_method", "server_address"},
		"turret_refusals_total":                  {"turret_layer", "turret_reason", "turret_stack"},
		"turret_gate_in_flight":                  {"turret_gate_kind", "turret_layer", "turret_stack"},
		"turret_gate_wait_seconds_total":         {"turret_gate_kind", "turret_layer", "turret_stack"},
		"turret_breaker_state":                   {"turret_layer", "turret_stack", "turret_state"},
		"turret_breaker_transitions_total":       {"turret_layer", "turret_stack", "turret_to"},
		"turret_rpc_active":                      {"rpc_method", "turret_side"},
		"turret_panics_total":                    {"turret_layer", "turret_stack"},
	} {
		family := families[name]
		if family == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		var got []string
		for _, l := range family.GetMetric()[0].GetLabel() {
			got = append(got, l.GetName())
		}
		for _, label := range labels {
			if !slices.Contains(got, label) {
				t.Errorf("%s has the labels %v, not %s", name, got, label)
			}
		}
	}
	n := uint64(0)
	for _, m := range families["rpc_client_call_duration_seconds"].GetMetric() {
		n += m.GetHistogram().GetSampleCount()
	}
	if n != calls {
		t.Errorf("%d calls were recorded, want %d", n, calls)
	}
}

var metricName = regexp.MustCompile(`\b(turret|rpc)_[a-z_]+_?[a-z]\b`)

// Every metric that the dashboard and the alerts ask for is one that the server or
// the client has.
func TestDashboardAndAlertsAskForWhatThereIs(t *testing.T) {
	families := measured(t, 1)
	known := map[string]bool{"turret_retries_total": true} // appears with the first retry
	for name, family := range families {
		known[name] = true
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				known[l.GetName()] = true
			}
		}
	}
	for _, file := range []string{"dashboard.json", "alerts.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := metricName.FindAllString(string(text), -1)
		if len(found) < 10 {
			t.Errorf("%s asks for %d metrics", file, len(found))
		}
		for _, name := range found {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"), "_sum")
			if !known[name] && !known[base] {
				t.Errorf("%s asks for %s, which does not exist", file, name)
			}
		}
	}
	text, _ := os.ReadFile("dashboard.json")
	if !json.Valid(text) {
		t.Error("dashboard.json is not JSON")
	}
}

func pass(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return nil }

// With the SDK a call costs what a layer that does nothing costs.
func TestRecordingAllocatesNothing(t *testing.T) {
	meter := metrics.New(metrics.Config{MeterProvider: sdk.NewMeterProvider(sdk.WithReader(sdk.NewManualReader()))})
	ctx := t.Context()
	allocations := func(layer interceptors.Layer) float64 {
		call := interceptors.New(layer).UnaryClient()
		return testing.AllocsPerRun(1000, func() { _ = call(ctx, "/package.Service/Method", nil, nil, nil, pass) })
	}
	nothing := allocations(func(inner interceptors.Service) interceptors.Service { return struct{ interceptors.Service }{inner} })
	if got := allocations(interceptors.Metrics(meter)); got > nothing {
		t.Errorf("%v allocations, want %v", got, nothing)
	}
}

// A duration has the trace of its RPC as an exemplar if Trace is outside.
func TestExemplarsNeedTraceOutside(t *testing.T) {
	for name, inside := range map[string]bool{"inside Trace": true, "outside Trace": false} {
		reader := sdk.NewManualReader()
		meter := metrics.New(metrics.Config{MeterProvider: sdk.NewMeterProvider(sdk.WithReader(reader))})
		layers := []interceptors.Layer{
			interceptors.Trace(trace.Config{TracerProvider: sdktrace.NewTracerProvider()}), interceptors.Metrics(meter),
		}
		if !inside {
			slices.Reverse(layers)
		}
		_ = interceptors.New(layers...).UnaryClient()(t.Context(), "/package.Service/Method", nil, nil, nil, pass)
		var all metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &all); err != nil {
			t.Fatal(err)
		}
		exemplars := 0
		for _, scope := range all.ScopeMetrics {
			for _, m := range scope.Metrics {
				if h, ok := m.Data.(metricdata.Histogram[float64]); ok {
					for _, p := range h.DataPoints {
						exemplars += len(p.Exemplars)
					}
				}
			}
		}
		if (exemplars > 0) != inside {
			t.Errorf("%s: %d exemplars", name, exemplars)
		}
	}
}

// BenchmarkCall is what a call costs with the SDK, over a layer that does nothing.
func BenchmarkCall(b *testing.B) {
	meter := metrics.New(metrics.Config{MeterProvider: sdk.NewMeterProvider(sdk.WithReader(sdk.NewManualReader()))})
	for name, layer := range map[string]interceptors.Layer{
		"nothing": func(inner interceptors.Service) interceptors.Service { return struct{ interceptors.Service }{inner} },
		"metrics": interceptors.Metrics(meter),
	} {
		b.Run(name, func(b *testing.B) {
			call := interceptors.New(layer).UnaryClient()
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				_ = call(ctx, "/package.Service/Method", nil, nil, nil, pass)
			}
		})
	}
}

// cancelling is an output that calls stop with the first line.
type cancelling struct {
	strings.Builder

	stop func()
}

func (c *cancelling) Write(p []byte) (int, error) {
	defer c.stop()
	return c.Builder.Write(p)
}

func TestRunServesMetricsUntilItIsStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &cancelling{stop: cancel}
	if err := run(ctx, []string{"-http", "localhost:0", "-clients", "2"}, out); err != nil || !strings.Contains(out.String(), "/metrics") {
		t.Errorf("%v, %s", err, out.String())
	}
	for _, args := range [][]string{{"-clients", "0"}, {"more"}, {"-http", "nowhere:port"}} {
		if err := run(t.Context(), args, out); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
