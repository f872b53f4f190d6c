package criticality_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/turret-go/turret/criticality"
)

func TestZeroLevelIsCritical(t *testing.T) {
	var zero criticality.Level
	if zero != criticality.Critical {
		t.Errorf("the zero level is %v, want critical", zero)
	}
	if got := criticality.From(t.Context()); got != criticality.Critical {
		t.Errorf("From(no level) = %v, want critical", got)
	}
	if _, ok := criticality.Lookup(t.Context()); ok {
		t.Error("Lookup finds a level in a context that has none")
	}
}

func TestLevelTravelsInContext(t *testing.T) {
	for l := criticality.CriticalPlus; l <= criticality.Sheddable; l++ {
		ctx := criticality.With(t.Context(), l)
		if got, ok := criticality.Lookup(ctx); got != l || !ok {
			t.Errorf("Lookup(With(%v)) = %v, %t", l, got, ok)
		}
	}
}

func TestTextOfEachLevel(t *testing.T) {
	for l := criticality.CriticalPlus; l <= criticality.Sheddable; l++ {
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		got := criticality.Level(9)
		if err := json.Unmarshal(text, &got); err != nil || got != l {
			t.Errorf("%s comes back as %v, %v; want %v", text, got, err, l)
		}
	}
	if _, err := criticality.Level(9).MarshalText(); err == nil {
		t.Error("an invalid level has a text")
	}
	got := criticality.Sheddable
	err := got.UnmarshalText([]byte("CRITICAL"))
	if err == nil || !strings.Contains(err.Error(), `"CRITICAL"`) || got != criticality.Sheddable {
		t.Errorf("UnmarshalText(CRITICAL): %v, level %v; want an error that quotes the text, and no change", err, got)
	}
}

func TestLowerEndsAtSheddable(t *testing.T) {
	l := criticality.CriticalPlus
	for _, want := range []criticality.Level{criticality.Critical, criticality.SheddablePlus, criticality.Sheddable, criticality.Sheddable} {
		if l = l.Lower(); l != want {
			t.Fatalf("the next level is %v, want %v", l, want)
		}
	}
	if got := criticality.Level(100).Index(); got != 3 {
		t.Errorf("Level(100).Index() = %d, want 3", got)
	}
}

func TestWithRefusesInvalidLevel(t *testing.T) {
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "level is 7") {
			t.Errorf("With(7) panics with %q", p)
		}
	}()
	criticality.With(context.Background(), 7)
}

func TestFromAllocatesNothing(t *testing.T) {
	ctx := criticality.With(t.Context(), criticality.Sheddable)
	if n := testing.AllocsPerRun(100, func() { _ = criticality.From(ctx) }); n != 0 {
		t.Errorf("From allocates %v times", n)
	}
}

func ExampleWith() {
	ctx := criticality.With(context.Background(), criticality.Sheddable)
	fmt.Println(criticality.From(ctx))
	// Output: sheddable
}
