package policyfile

import (
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/turret-go/turret/policy/internal/tree"
)

// readScalar reads a scalar of the kind of field. If n is none, text says what
// it is and must be.
func readScalar(n *tree.Node, field protoreflect.FieldDescriptor) (v protoreflect.Value, text string) {
	switch field.Kind() {
	case protoreflect.BoolKind:
		if n.Kind != tree.Bool {
			return v, fmt.Sprintf("is %v, must be true or false", n)
		}
		return protoreflect.ValueOfBool(strings.EqualFold(n.Value, "true")), ""
	case protoreflect.StringKind:
		return readText(n)
	case protoreflect.Int32Kind:
		return readInt(n)
	case protoreflect.DoubleKind:
		return readFloat(n)
	case protoreflect.EnumKind:
		return readEnum(n, field.Enum())
	default:
		return v, fmt.Sprintf("has the kind %v, which cannot be read", field.Kind())
	}
}

func readText(n *tree.Node) (v protoreflect.Value, text string) {
	switch n.Kind {
	case tree.Text:
		return protoreflect.ValueOfString(n.Value), ""
	case tree.Number, tree.Bool:
		return v, fmt.Sprintf("is %v, which is %s, must be text: %q", n, n.Kind, n.Value)
	case tree.Map, tree.List, tree.Null:
	}
	return v, fmt.Sprintf("is %v, must be text", n)
}

func readInt(n *tree.Node) (v protoreflect.Value, text string) {
	if n.Kind != tree.Number {
		return v, fmt.Sprintf("is %v, must be a whole number%s", n, unquoted(n, isInt))
	}
	i, err := strconv.ParseInt(n.Value, 10, 64)
	switch {
	case err == nil && i >= math.MinInt32 && i <= math.MaxInt32:
		return protoreflect.ValueOfInt32(int32(i)), ""
	case isInt(n.Value):
		return v, fmt.Sprintf("is %v, must be between %d and %d", n, math.MinInt32, math.MaxInt32)
	default:
		return v, fmt.Sprintf("is %v, must be a whole number in decimal digits", n)
	}
}

func readFloat(n *tree.Node) (v protoreflect.Value, text string) {
	if n.Kind != tree.Number {
		return v, fmt.Sprintf("is %v, must be a number%s", n, unquoted(n, isFloat))
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return v, fmt.Sprintf("is %v, must be a number in decimal digits", n)
	}
	return protoreflect.ValueOfFloat64(f), ""
}

func isInt(s string) bool {
	digits := strings.TrimPrefix(s, "-")
	return digits != "" && strings.Trim(digits, "0123456789") == ""
}

func isFloat(s string) bool {
	_, err := strconv.ParseFloat(s, 64)
	return err == nil
}

// unquoted returns a hint at the number that text was meant to be.
func unquoted(n *tree.Node, is func(string) bool) string {
	s := strings.TrimSpace(n.Value)
	if n.Kind != tree.Text {
		return ""
	}
	if share, ok := strings.CutSuffix(s, "%"); ok {
		if f, err := strconv.ParseFloat(strings.TrimSpace(share), 64); err == nil && is("0.5") {
			return ": " + strconv.FormatFloat(f/100, 'g', 6, 64)
		}
		return ", not a share"
	}
	if is(s) {
		return ": " + s + ", without quotes"
	}
	return ""
}

// valueNames returns the names of e without their prefix, and without the one
// that stands for none.
func valueNames(e protoreflect.EnumDescriptor) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := 1; i < e.Values().Len(); i++ {
			if !yield(strings.TrimPrefix(string(e.Values().Get(i).Name()), prefixOf(e))) {
				return
			}
		}
	}
}

// prefixOf returns what the names of e begin with: that of its first value
// without UNSPECIFIED.
func prefixOf(e protoreflect.EnumDescriptor) string {
	return strings.TrimSuffix(string(e.Values().Get(0).Name()), "UNSPECIFIED")
}

func readEnum(n *tree.Node, e protoreflect.EnumDescriptor) (v protoreflect.Value, text string) {
	if n.Kind == tree.Text {
		name := strings.TrimPrefix(n.Value, prefixOf(e))
		if value := e.Values().ByName(protoreflect.Name(prefixOf(e) + name)); value != nil && value.Number() != 0 {
			return protoreflect.ValueOfEnum(value.Number()), ""
		}
	}
	hint := ""
	switch n.Kind {
	case tree.Text:
		hint = meant(n.Value, valueNames(e))
	case tree.Number:
		if i, err := strconv.Atoi(n.Value); err == nil {
			if value := e.Values().ByNumber(protoreflect.EnumNumber(i)); value != nil && i > 0 {
				hint = " (did you mean " + strings.TrimPrefix(string(value.Name()), prefixOf(e)) + "?)"
			}
		}
	case tree.Map, tree.List, tree.Bool, tree.Null:
	}
	return v, fmt.Sprintf("is %v, must be one of %s%s", n, list(valueNames(e)), hint)
}

// maxDuration bounds durations: what is longer is a mistake, and may overflow.
const maxDuration = 365 * 24 * time.Hour

// readDuration reads a duration in Go's form, of which protobuf's ("1.5s") is
// one.
func readDuration(n *tree.Node) (d time.Duration, text string) {
	if n.Kind == tree.Number {
		return 0, fmt.Sprintf("is %v without a unit, must have one: %s", n, withUnits(n.Value))
	}
	if n.Kind != tree.Text {
		return 0, fmt.Sprintf("is %v, must be a duration such as 500ms, 2s or 1m30s", n)
	}
	d, err := time.ParseDuration(n.Value)
	switch {
	case strings.HasPrefix(strings.TrimSpace(n.Value), "-"):
		return 0, fmt.Sprintf("is %v, must not be negative", n)
	case err == nil && isFloat(n.Value): // "0"
		return 0, fmt.Sprintf("is %v without a unit, must have one: %s", n, withUnits(n.Value))
	case err == nil && d <= maxDuration:
		return d, ""
	case err == nil || strings.Contains(err.Error(), "invalid duration") && isHuge(n.Value):
		return 0, fmt.Sprintf("is %v, must be at most 8760h (365 days)", n)
	case isFloat(n.Value):
		return 0, fmt.Sprintf("is %v without a unit, must have one: %s", n, withUnits(n.Value))
	}
	if days, ok := strings.CutSuffix(n.Value, "d"); ok && isFloat(days) {
		f, _ := strconv.ParseFloat(days, 64)
		return 0, fmt.Sprintf("is %v, must be a duration with the units h, m, s, ms, us or ns: %sh", n, strconv.FormatFloat(f*24, 'g', 6, 64))
	}
	return 0, fmt.Sprintf("is %v, must be a duration such as 500ms, 2s or 1m30s", n)
}

func withUnits(number string) string {
	if number == "0" {
		return "0s"
	}
	return number + "s or " + number + "ms"
}

// isHuge reports whether s is a duration that overflows.
func isHuge(s string) bool {
	digits := strings.TrimRight(s, "hmsuµn")
	f, err := strconv.ParseFloat(digits, 64)
	return digits != s && err == nil && f > 1e9
}
