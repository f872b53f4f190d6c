package bench

import (
	"os"
	"testing"

	"github.com/turret-go/turret/test/bench/measure"
)

func TestMain(m *testing.M) { os.Exit(measure.Main(m)) }
