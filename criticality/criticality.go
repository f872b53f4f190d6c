// Package criticality says how much a call matters. Under overload the least
// critical calls are refused first.
//
// A [Level] lies in the context of a call ([With], [From]). The line of
// adaptive.Limit orders calls by it, and interceptors.Criticality carries it
// over the wire. The four levels and their names are those of chapter 21 of
// Google's book on site reliability engineering.
package criticality

import (
	"context"
	"fmt"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// A Level is how critical a call is. A smaller Level is more critical, so levels
// can be compared with < and >. The zero Level is [Critical].
type Level int8

// The levels, the most critical first.
const (
	// CriticalPlus is for the few calls whose failure is an outage that users
	// see at once. A service must have capacity for all of its CriticalPlus and
	// Critical calls.
	CriticalPlus Level = iota - 1
	// Critical is the level of every call that has been given no other. Its
	// failure is visible to users.
	Critical
	// SheddablePlus is for calls of which some may fail for minutes, such as
	// those of batch jobs, which repeat them.
	SheddablePlus
	// Sheddable is for calls that may fail often, and for hours.
	Sheddable
)

// Levels is the number of levels.
const Levels = 4

// Key is the metadata key under which a level crosses the wire, as the text of
// [Level.MarshalText]. In a trailer it is the level that a server gave to a call
// which claimed a more critical one.
const Key = "turret-criticality"

// ThresholdKey is the key of the trailer in which a server that is full says
// which levels are worth sending: a number between 0 and [Levels], in decimal. Of
// the calls whose [Level.Index] is below its whole part all are wanted, of those
// with that index the part behind the point, and none of the others.
const ThresholdKey = "turret-threshold"

var names = [Levels]string{"critical-plus", "critical", "sheddable-plus", "sheddable"}

// Valid reports whether l is one of the four levels.
func (l Level) Valid() bool { return l >= CriticalPlus && l <= Sheddable }

// Index returns the place of l among the levels: 0 is CriticalPlus, 3 is
// Sheddable. A Level that is not valid has the index of the nearest that is.
func (l Level) Index() int { return int(l.clamp() - CriticalPlus) }

// Lower returns the level below l, which is less critical. Below Sheddable there
// is none: it returns Sheddable.
func (l Level) Lower() Level { return (l.clamp() + 1).clamp() }

// clamp returns the nearest valid level.
func (l Level) clamp() Level { return min(max(l, CriticalPlus), Sheddable) }

// String returns the name of l: critical-plus, critical, sheddable-plus or
// sheddable. That of an invalid level is Level(9).
func (l Level) String() string {
	if !l.Valid() {
		return fmt.Sprintf("Level(%d)", int8(l))
	}
	return names[l.Index()]
}

// MarshalText returns the name of l, or an error if l is not valid.
func (l Level) MarshalText() ([]byte, error) {
	if !l.Valid() {
		return nil, fmt.Errorf("criticality: level %d is not between %d and %d", int8(l), int8(CriticalPlus), int8(Sheddable))
	}
	return []byte(l.String()), nil
}

// UnmarshalText sets l to the level with the name text. For any other text it
// returns an error and leaves l as it is.
func (l *Level) UnmarshalText(text []byte) error {
	parsed, ok := Parse(string(text))
	if !ok {
		return fmt.Errorf("criticality: level is %.40q, must be one of %q", text, names)
	}
	*l = parsed
	return nil
}

// Parse returns the level with the name text, and whether there is one. It
// allocates nothing.
func Parse(text string) (Level, bool) {
	for i, name := range names {
		if text == name {
			return Level(i) + CriticalPlus, true
		}
	}
	return Critical, false
}

type contextKey struct{}

// With returns a child of ctx whose calls have the level l. It panics if l is
// not valid.
func With(ctx context.Context, l Level) context.Context {
	if !l.Valid() {
		misuse.Check("criticality: With", &turret.FieldError{
			Package: "criticality", Field: "level", Value: int8(l),
			Bound: fmt.Sprintf("between %d and %d", int8(CriticalPlus), int8(Sheddable)),
		})
	}
	return context.WithValue(ctx, contextKey{}, l)
}

// From returns the level of the calls of ctx, and [Critical] if ctx has none.
func From(ctx context.Context) Level {
	l, _ := Lookup(ctx)
	return l
}

// Lookup returns the level of the calls of ctx, and whether ctx has one.
func Lookup(ctx context.Context) (Level, bool) {
	l, ok := ctx.Value(contextKey{}).(Level)
	return l, ok
}
