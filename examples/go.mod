module github.com/turret-go/turret/examples

go 1.26.0

replace github.com/turret-go/turret => ..
