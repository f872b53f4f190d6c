module github.com/turret-go/turret/bench

go 1.26.0

replace github.com/turret-go/turret => ..

require (
	github.com/failsafe-go/failsafe-go v0.9.8
	github.com/turret-go/turret v0.0.0-00010101000000-000000000000
	golang.org/x/sync v0.24.0
	golang.org/x/time v0.16.0
)

require github.com/bits-and-blooms/bitset v1.24.4 // indirect
