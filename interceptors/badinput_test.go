package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/breaker"
	"github.com/turret-go/turret/hedge"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/limit"
	"github.com/turret-go/turret/retry"
	"github.com/turret-go/turret/trace"
)

// badInputs are constructors with something that they cannot take: each panics
// with one line that names the package, what it is about, the value and the
// bound; where there is a Validate it returns that line.
var badInputs = []struct {
	name     string
	make     func()
	validate func() error
	want     []string // parts of the line; it begins with the first
}{
	{"New", func() { interceptors.New(nil, answersNil) }, nil, []string{"interceptors: New: ", "layer 1", "nil", "must"}},
	{"New in For", func() { interceptors.New(interceptors.For("/*", nil, answersNil)) }, nil, []string{"interceptors: For: ", "layer 1", "nil", "must"}},
	{"New in Named", func() { interceptors.New(interceptors.Named("n", answersNil)) }, nil, []string{"interceptors: Named: ", "nil", "must"}},
	{"For", func() { interceptors.For("") }, nil, []string{"interceptors: For: ", `pattern is ""`, "must"}},
	{"For without slash", func() { interceptors.For("a.B/C") }, nil, []string{"interceptors: For: ", `pattern is "a.B/C"`, "must"}},
	{"Except", func() { interceptors.Except("/a.B") }, nil, []string{"interceptors: Except: ", `pattern is "/a.B"`, "must"}},
	{"ForKind, none", func() { interceptors.ForKind(nil) }, nil, []string{"interceptors: ForKind: ", "kinds is []", "must"}},
	{"ForKind, unknown", func() { interceptors.ForKind([]interceptors.Kind{4}) }, nil, []string{"interceptors: ForKind: ", "kinds[0] is Kind(4)", "must"}},
	{"ForMatch", func() { interceptors.ForMatch(nil) }, nil, []string{"interceptors: ForMatch: ", "matcher is nil", "must"}},
	{"Named without name", func() { interceptors.Named("", interceptors.InContext()) }, nil, []string{"interceptors: Named: ", `name is ""`, "must"}},
	{"Named without layer", func() { interceptors.Named("n", nil) }, nil, []string{"interceptors: Named: ", "layer is nil", "must"}},
	{"Observe", func() { interceptors.Observe(nil) }, nil, []string{"interceptors: Observe: ", "function is nil", "must"}},
	{"Filter", func() { interceptors.Filter(nil) }, nil, []string{"interceptors: Filter: ", "function is nil", "must"}},
	{"Recover", func() { interceptors.Recover(nil) }, nil, []string{"interceptors: Recover: ", "functions[0] is nil", "must"}},
	{"Admit", func() { interceptors.Admit(nil) }, nil, []string{"turret: Gated: ", "gate is nil", "must"}},
	{"Admit, nothing in it", func() { interceptors.Admit((*limit.Concurrency)(nil)) }, nil, []string{"turret: Gated: ", "gate is a nil *limit.Concurrency", "must"}},
	{"ReplayLimit", func() { interceptors.ReplayLimit(-1) }, nil, []string{"interceptors: ReplayLimit: ", "bytes is -1", "must"}},
	{"Retry, option", func() { interceptors.Retry(retry.Config{}, nil) }, nil, []string{"interceptors: Retry: ", "options[0] is nil", "must"}},
	retryInput("MaxAttempts", retry.Config{MaxAttempts: -1}, "-1"),
	retryInput("Backoff.Max", retry.Config{Backoff: retry.Backoff{Base: 2, Max: 1}}, "1ns"),
	retryInput("Backoff.Jitter", retry.Config{Backoff: retry.Backoff{Jitter: math.NaN()}}, "NaN"),
	retryInput("Backoff.Jitter", retry.Config{Backoff: retry.Backoff{Jitter: 1.5}}, "1.5"),
	{"Timeout", func() { interceptors.Timeout(0) }, nil, []string{"timeout: ", "d is 0s", "must"}},
	hedgeInput("Delay", hedge.Config{Delay: -1}, "-1ns"),
	hedgeInput("Quantile", hedge.Config{Quantile: 1}, "1"),
	hedgeInput("MinSamples", hedge.Config{MinSamples: -1}, "-1"),
	hedgeInput("Window", hedge.Config{Window: 1}, "1ns"),
	hedgeInput("MaxHedges", hedge.Config{MaxHedges: 5}, "5"),
	hedgeInput("MaxRise", hedge.Config{MaxRise: 0.5}, "0.5"),
	hedgeInput("Counted", hedge.Config{Counted: true}, "true"),
	{"Timeout, negative", func() { interceptors.Timeout(-time.Second) }, nil, []string{"timeout: ", "d is -1s", "must"}},
	{"ConcurrencyLimit", func() { interceptors.ConcurrencyLimit(-1, limit.Queue{}) }, nil, []string{"limit: ", "is -1", "must"}},
	{"Buffer", func() { interceptors.Buffer(-1) }, nil, []string{"buffer: ", "is -1", "must"}},
	breakerInput("Ratio", breaker.Config{Ratio: 2}, "2"),
	breakerInput("Window", breaker.Config{Window: -1}, "-1ns"),
	{"Trace", func() { interceptors.Trace(trace.Config{Attributes: make([]attribute.KeyValue, 1)}) }, nil, []string{"interceptors: Trace: ", "Attributes[0]", "must"}},
	queueInput("Max", limit.Queue{Max: -2}, "-2"),
	queueInput("Timeout", limit.Queue{Timeout: -1}, "-1ns"),
	rateInput("N", limit.Rate{}, "0"),
	rateInput("N", limit.Rate{N: -1, Per: time.Second}, "-1"),
	rateInput("Per", limit.Rate{N: 1}, "0s"),
	rateInput("Burst", limit.Rate{N: 1, Per: 1, Burst: -1}, "-1"),
	budgetInput("Ratio", retry.BudgetConfig{Ratio: math.NaN()}, "NaN"),
	budgetInput("Ratio", retry.BudgetConfig{Ratio: math.Inf(1)}, "+Inf"),
	budgetInput("MinPerSecond", retry.BudgetConfig{MinPerSecond: math.MaxInt}, fmt.Sprint(math.MaxInt)),
	budgetInput("Window", retry.BudgetConfig{Window: -time.Second}, "-1s"),
}

type input = struct {
	name     string
	make     func()
	validate func() error
	want     []string
}

func retryInput(field string, c retry.Config, value string) input {
	return input{"Retry, " + field, func() { interceptors.Retry(c) }, c.Validate, []string{"interceptors: Retry: ", field + " is " + value, "must"}}
}

func breakerInput(field string, c breaker.Config, value string) input {
	return input{"Breaker, " + field, func() { interceptors.Breaker(c) }, c.Validate, []string{"interceptors: Breaker: ", field + " is " + value, "must"}}
}

func hedgeInput(field string, c hedge.Config, value string) input {
	return input{"Hedge, " + field, func() { interceptors.Hedge(c) }, c.Validate, []string{"interceptors: Hedge: ", field + " is " + value, "must"}}
}

func queueInput(field string, q limit.Queue, value string) input {
	return input{field, func() { interceptors.ConcurrencyLimit(1, q) }, q.Validate, []string{"limit: ", "." + field + " is " + value, "must"}}
}

func rateInput(field string, r limit.Rate, value string) input {
	return input{field, func() { interceptors.RateLimit(r, limit.Queue{}) }, r.Validate, []string{"limit: ", "." + field + " is " + value, "must"}}
}

func budgetInput(field string, c retry.BudgetConfig, value string) input {
	return input{"Budget, " + field, func() { retry.NewBudget(c) }, c.Validate, []string{"retry: NewBudget: ", field + " is " + value, "must"}}
}

// answersNil is a layer that makes no service.
func answersNil(interceptors.Service) interceptors.Service { return nil }

func TestBadInput(t *testing.T) {
	for _, tt := range badInputs {
		t.Run(tt.name, func(t *testing.T) {
			line, field := panicOf(tt.make)
			if !strings.HasPrefix(line, tt.want[0]) || strings.Contains(line, "\n") {
				t.Errorf("panics with %q, want one line that begins with %q", line, tt.want[0])
			}
			for _, part := range tt.want {
				if !strings.Contains(line, part) {
					t.Errorf("panics with %q, which does not say %q", line, part)
				}
			}
			if field == nil {
				t.Fatal("errors.As finds no FieldError in the panic")
			}
			if tt.validate == nil {
				return
			}
			want, ok := errors.AsType[*turret.FieldError](tt.validate())
			if !ok || field.Value != want.Value && field.Value == field.Value || field.Bound != want.Bound || !strings.HasSuffix(field.Field, want.Field) {
				t.Errorf("panics with %v, and Validate returns %v", field, want)
			}
		})
	}
}

// panicOf returns the text of the error that f panics with, and the FieldError in
// it.
func panicOf(f func()) (text string, field *turret.FieldError) {
	defer func() {
		if err, ok := recover().(error); ok {
			text = err.Error()
			field, _ = errors.AsType[*turret.FieldError](err)
		}
	}()
	f()
	return "", nil
}

// What is odd, but has a meaning, is taken.
func TestOddInput(t *testing.T) {
	for name, f := range map[string]func(){
		"Recover with nothing":  func() { interceptors.Recover() },
		"limit of nobody":       func() { interceptors.ConcurrencyLimit(0, limit.Queue{Max: limit.Unbounded}) },
		"ReplayLimit of 0":      func() { interceptors.Retry(retry.Config{}, interceptors.ReplayLimit(0)) },
		"RetryCodes of nothing": func() { interceptors.RetryCodes()(context.Background(), nil) },
		"RetryCodes of any":     func() { interceptors.RetryCodes(codes.OK, 99)(context.Background(), errMine) },
		"one attempt": func() {
			interceptors.Retry(retry.Config{MaxAttempts: 1, MaxDelay: -1, Backoff: retry.Backoff{Base: -1, Max: -1, Jitter: -1}})
		},
		"For of no layers": func() { interceptors.For("/*") },
		"all kinds, twice": func() { interceptors.ForKind(append(kinds, kinds...)) },
	} {
		if line, _ := panicOf(f); line != "" {
			t.Errorf("%s panics with %q", name, line)
		}
	}
}
