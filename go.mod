module github.com/turret-go/turret

go 1.26
