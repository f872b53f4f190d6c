package bench

import (
	"os"
	"testing"

	"github.com/turret-go/turret/bench/measure"
)

func TestMain(m *testing.M) { os.Exit(measure.Main(m)) }
