package turrettest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/turret-go/turret"
	"github.com/turret-go/turret/turrettest"
)

func TestGateOfARecorder(t *testing.T) {
	turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) { return turrettest.NewRecorder(), -1 })
}

func TestGateOfAToy(t *testing.T) {
	turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) { return newToy(""), toyRoom })
}

// faultVariable names the fault of the gate that TestFaultyGate tests.
const faultVariable = "TURRETTEST_FAULT"

// TestFaultyGate is run by TestGateFindsFaults, in a process of its own: it is
// there to fail.
func TestFaultyGate(t *testing.T) {
	f := fault(os.Getenv(faultVariable))
	if f == "" {
		t.Skip("runs in a process of its own")
	}
	turrettest.TestGate(t, func(*testing.T) (turret.Gate, int) { return newToy(f), toyRoom })
}

// TestGateFindsFaults checks that each fault makes the case fail that is about
// it, and that a case that fails says which rule was broken.
func TestGateFindsFaults(t *testing.T) {
	for f, name := range faults {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFaultyGate$")
			cmd.Env = append(os.Environ(), faultVariable+"="+string(f))
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("the suite found no fault")
			}
			failed := strings.Count(string(out), "--- FAIL: TestFaultyGate/")
			found := strings.Contains(string(out), "--- FAIL: TestFaultyGate/"+strings.ReplaceAll(name, " ", "_"))
			if rules := strings.Count(string(out), "the rule: "); rules != failed || !found {
				t.Errorf("case %q found it: %t; %d cases failed, %d of them said why:\n%s", name, found, failed, rules, out)
			}
		})
	}
}
