package policy

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/interceptors"
	"github.com/turret-go/turret/policy/internal/render"
	policyv1 "github.com/turret-go/turret/proto/turret/policy/v1"
)

// maxDuration bounds all durations: what is longer is a mistake.
const maxDuration = 365 * 24 * time.Hour

// maxItems bounds the lists in blocks, which are lists of codes: there are 16.
const maxItems = 16

// checkBlock checks a block by itself.
func (d *reader) checkBlock(b *block) {
	if b.kind.field.Kind() != protoreflect.MessageKind {
		return
	}
	c := &checker{reader: d, block: b, before: len(d.errs)}
	c.values(b.value.Message(), "")
	if c.failed() || c.off() {
		return
	}
	switch m := b.message().(type) {
	case *policyv1.Retry:
		c.retry(m)
	case *policyv1.Hedge:
		c.hedge(m)
	case *policyv1.Limit:
		c.limit(m, "")
	case *policyv1.RateLimit:
		c.rateLimit(m, "")
	case *policyv1.Breaker:
		c.breaker(m)
	case *policyv1.Throttle:
		c.throttle(m)
	case *policyv1.AdaptiveLimit:
		c.adaptiveLimit(m)
	case *policyv1.Criticality:
		if b.kind.side == interceptors.SideClient && m.GetAllow() != policyv1.Level_LEVEL_UNSPECIFIED {
			c.wrong("allow", "is for servers, must not be given for a client")
		}
	case *policyv1.PerKey:
		c.perKey(m)
	}
}

// A checker checks one block.
type checker struct {
	*reader

	block  *block
	before int // errors before this block
}

func (c *checker) failed() bool { return len(c.errs) > c.before }

// wrong says that a field of the block is what it must not be. field is its path
// inside the block, "" for the block itself.
func (c *checker) wrong(field, format string, args ...any) {
	path := c.block.path
	if field != "" {
		path += "." + field
	}
	c.problem(c.block.rule, c.block.rule.position(path), path, format, args...)
}

// values checks what holds for every field of a kind: durations and enums.
func (c *checker) values(m protoreflect.Message, path string) {
	if d, ok := m.Interface().(*durationpb.Duration); ok {
		c.duration(d, path)
		return
	}
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		at := strings.TrimPrefix(path+"."+field.TextName(), ".")
		switch {
		case field.IsList() && v.List().Len() > maxItems:
			c.wrong(at, "has %d values, must have at most %d", v.List().Len(), maxItems)
		case field.IsList():
			for i := range v.List().Len() {
				c.enum(field, v.List().Get(i), fmt.Sprintf("%s[%d]", at, i))
			}
		case field.Kind() == protoreflect.MessageKind:
			c.values(v.Message(), at)
		default:
			c.enum(field, v, at)
		}
		return true
	})
}

func (c *checker) duration(d *durationpb.Duration, path string) {
	switch err := d.CheckValid(); {
	case err != nil:
		c.wrong(path, "is {seconds: %d, nanos: %d}, must be a valid duration", d.GetSeconds(), d.GetNanos())
	case d.AsDuration() < 0:
		c.wrong(path, "is %s, must not be negative", render.Duration(d.AsDuration()))
	case d.AsDuration() > maxDuration:
		c.wrong(path, "is %s, must be at most %s (365 days)", render.Duration(d.AsDuration()), render.Duration(maxDuration))
	}
}

func (c *checker) enum(field protoreflect.FieldDescriptor, v protoreflect.Value, path string) {
	if field.Kind() == protoreflect.EnumKind && (field.Enum().Values().ByNumber(v.Enum()) == nil || field.IsList() && v.Enum() == 0) {
		c.wrong(path, "is %d, must be one of the values of %s", v.Enum(), field.Enum().Name())
	}
}

// off reports whether the block is off, and whether that is all that it says.
func (c *checker) off() bool {
	if !c.block.off {
		return false
	}
	m := c.block.value.Message()
	if m.Descriptor().Fields().ByName("off") == nil {
		return true
	}
	m.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if field.Name() != "off" {
			c.wrong(field.TextName(), "is given beside off, must not be")
		}
		return true
	})
	return true
}

func (c *checker) between(field string, v *int32, from, to int32) {
	if v != nil && (*v < from || *v > to) {
		c.wrong(field, "is %d, must be from %d to %d", *v, from, to)
	}
}

func (c *checker) share(field string, v *float64, from, to float64) {
	if v != nil && !(*v >= from && *v <= to) { // NaN is neither
		c.wrong(field, "is %v, must be from %v to %v", *v, from, to)
	}
}

func (c *checker) positive(field string, d *durationpb.Duration) { c.within(field, d, 1, maxDuration) }

func (c *checker) within(field string, d *durationpb.Duration, from, to time.Duration) {
	switch v := d.AsDuration(); {
	case d == nil || v >= from && v <= to:
	case from == 1 && v == 0:
		c.wrong(field, "is 0s, must be positive")
	case to == maxDuration:
		c.wrong(field, "is %s, must be at least %s", render.Duration(v), render.Duration(from))
	default:
		c.wrong(field, "is %s, must be from %s to %s", render.Duration(v), render.Duration(from), render.Duration(to))
	}
}

// notBelow checks that of two durations the one at field is not below the other.
func (c *checker) notBelow(field string, d *durationpb.Duration, other string, least time.Duration) {
	if d != nil && d.AsDuration() < least {
		c.wrong(field, "is %s, must be at least %s, which is %s", render.Duration(d.AsDuration()), other, render.Duration(least))
	}
}

// final are codes that another attempt does not change.
var final = []policyv1.Code{
	policyv1.Code_CODE_CANCELLED, policyv1.Code_CODE_INVALID_ARGUMENT, policyv1.Code_CODE_NOT_FOUND,
	policyv1.Code_CODE_ALREADY_EXISTS, policyv1.Code_CODE_PERMISSION_DENIED, policyv1.Code_CODE_FAILED_PRECONDITION,
	policyv1.Code_CODE_OUT_OF_RANGE, policyv1.Code_CODE_UNIMPLEMENTED, policyv1.Code_CODE_UNAUTHENTICATED,
}

func (c *checker) retry(m *policyv1.Retry) {
	if m.MaxAttempts != nil && m.GetMaxAttempts() == 1 {
		c.wrong("max_attempts", "is 1, must be from 2 to 10 (for no retries: off: true)")
	} else {
		c.between("max_attempts", m.MaxAttempts, 2, 10)
	}
	for i, code := range m.GetCodes() {
		at := fmt.Sprintf("codes[%d]", i)
		switch name := render.Enum(code.Descriptor(), code.Number()); {
		case slices.Contains(final, code):
			c.wrong(at, "is %s, which another attempt does not change, must not be retried", name)
		case slices.Index(m.GetCodes(), code) < i:
			c.wrong(at, "is %s, which is there twice, must be given once", name)
		}
	}
	c.backoff(m.GetBackoff())
	c.budget(m.GetBudget())
	if !c.failed() {
		c.validate(retryConfig(m).Validate(), retryFields)
	}
}

func (c *checker) backoff(m *policyv1.Backoff) {
	c.within("backoff.base", m.GetBase(), time.Millisecond, maxDuration)
	c.positive("backoff.max", m.GetMax())
	if m.GetBase() != nil {
		c.notBelow("backoff.max", m.GetMax(), "base", m.GetBase().AsDuration())
	}
	if m != nil {
		c.share("backoff.jitter", m.Jitter, 0, 1)
		c.share("backoff.multiplier", m.Multiplier, 1, 10)
	}
}

func (c *checker) budget(m *policyv1.Budget) {
	if m == nil {
		return
	}
	c.share("budget.ratio", m.Ratio, 0, 1000)
	c.between("budget.min_per_second", m.MinPerSecond, 0, 1_000_000)
	c.within("budget.window", m.GetWindow(), 10*time.Millisecond, 10*time.Minute)
	if m.Ratio != nil && m.GetRatio() == 0 && m.MinPerSecond != nil && m.GetMinPerSecond() == 0 {
		c.wrong("budget", "allows nothing, must have a ratio or min_per_second above 0 (to have none: off: true)")
	}
}

func (c *checker) hedge(m *policyv1.Hedge) {
	c.positive("delay", m.GetDelay())
	if m.Quantile != nil && !(m.GetQuantile() >= 0.000001 && m.GetQuantile() < 1) {
		c.wrong("quantile", "is %v, must be above 0 and below 1", m.GetQuantile())
	}
	c.between("max_hedges", m.MaxHedges, 1, 4)
	c.budget(m.GetBudget())
	if !c.failed() {
		c.validate(hedgeConfig(m).Validate(), hedgeFields)
	}
}

func (c *checker) queue(m *policyv1.Queue, path string) {
	switch {
	case m == nil:
		return
	case m.Max == nil:
		c.wrong(path+"queue", "has no max, must have one")
	case m.GetMax() < 1:
		c.wrong(path+"queue.max", "is %d, must be at least 1 (for no line: no queue)", m.GetMax())
	}
	c.positive(path+"queue.timeout", m.GetTimeout())
}

func (c *checker) limit(m *policyv1.Limit, path string) {
	switch {
	case m.Max == nil:
		c.wrong(strings.TrimSuffix(path, "."), "has no max, must have one")
	case m.GetMax() < 0:
		c.wrong(path+"max", "is %d, must be at least 0", m.GetMax())
	}
	c.queue(m.GetQueue(), path)
}

func (c *checker) rateLimit(m *policyv1.RateLimit, path string) {
	switch {
	case m.Requests == nil:
		c.wrong(strings.TrimSuffix(path, "."), "has no requests, must have them")
	case m.GetRequests() < 1:
		c.wrong(path+"requests", "is %d, must be at least 1", m.GetRequests())
	}
	c.positive(path+"per", m.GetPer())
	c.between(path+"burst", m.Burst, 1, math.MaxInt32)
	c.queue(m.GetQueue(), path)
	if !c.failed() {
		c.validate(rateOf(m).Validate(), rateFields)
	}
}

func (c *checker) breaker(m *policyv1.Breaker) {
	c.between("consecutive", m.Consecutive, 0, math.MaxInt32)
	c.share("ratio", m.Ratio, 0, 1)
	c.between("min_requests", m.MinRequests, 1, 1_000_000)
	c.within("window", m.GetWindow(), 10*time.Millisecond, maxDuration)
	c.within("open_for", m.GetOpenFor(), time.Millisecond, maxDuration)
	c.positive("max_open_for", m.GetMaxOpenFor())
	if m.GetOpenFor() != nil {
		c.notBelow("max_open_for", m.GetMaxOpenFor(), "open_for", m.GetOpenFor().AsDuration())
	}
	if m.Consecutive != nil && m.GetConsecutive() == 0 && m.Ratio != nil && m.GetRatio() == 0 {
		c.wrong("", "never opens, must have consecutive or ratio above 0 (to have none: off: true)")
	}
	if !c.failed() {
		c.validate(breakerConfig(m).Validate(), breakerFields)
	}
}

// validate puts the error of a mechanism's Validate into the words of the file:
// fields maps its fields to those of the block.
func (c *checker) validate(err error, fields map[string]string) {
	if err == nil {
		return
	}
	e, ok := errors.AsType[*turret.FieldError](err)
	if !ok {
		c.wrong("", "is not accepted: %v", err)
		return
	}
	bound := e.Bound
	for name, word := range fields {
		bound = strings.ReplaceAll(bound, name, word)
	}
	c.wrong(fields[e.Field], "is %v, must be %s", e.Value, bound)
}
