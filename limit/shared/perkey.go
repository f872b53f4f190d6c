package shared

import (
	"github.com/turret-go/turret"
	"github.com/turret-go/turret/internal/misuse"
)

// PerKey returns a function that makes a [Limit] for each key, for
// [limit.KeyedConfig]:
//
//	limit.NewKeyed(limit.KeyedConfig{New: shared.PerKey(engine, shared.Config{
//		Key: "tenants", Rate: limit.PerSecond(100),
//	})})
//
// Each key has the rate of c. The engine knows the limit of a key as c.Key, a slash
// and the key. Keys beyond the bound of the [limit.Keyed] share the limit whose name
// ends with the slash, and so does the key "". The function may be called
// concurrently. PerKey panics if engine is nil or c is invalid.
func PerKey(engine Engine, c Config) func(key string) turret.Gate {
	if engine == nil {
		misuse.Check("shared: PerKey", &turret.FieldError{Package: "shared", Field: "engine", Value: nil, Bound: "an Engine"})
	}
	misuse.Check("shared: PerKey", c.Validate())
	return func(key string) turret.Gate {
		of := c
		of.Key += "/" + key
		return New(engine, of)
	}
}
