# What a contributor runs. `make help` lists it. The steps themselves are written
# once, in .ci/run, so that a target does exactly what CI does.

.DEFAULT_GOAL := help
# For each fuzz target; CI takes 2s.
FUZZTIME ?= 30s
# Which benchmarks, as a regular expression; empty: all.
BENCH ?=
export FUZZTIME BENCH

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /|/' | column -t -s '|'

.PHONY: build
build: ## compile every package of every module
	@.ci/run build

.PHONY: test
test: ## all tests of the root with the race detector
	@.ci/run test

.PHONY: test-nested
test-nested: ## the tests of the nested modules (examples, test/bench ...), which `go test ./...` does not enter
	@.ci/run nested

.PHONY: lint
lint: ## checks that run no code: vet, format, golangci-lint, go fix, go mod tidy, sleeps in tests
	@.ci/run sleep vet fix tidy format lint

.PHONY: fix
fix: ## apply automatic fixes in the root: modernise, format, tidy
	go fix ./...
	GOWORK=off go tool -modfile=internal/tools/go.mod golangci-lint run --fix ./... || true
	GOWORK=off go tool -modfile=internal/tools/go.mod golangci-lint fmt
	GOWORK=off go mod tidy

.PHONY: generate
generate: ## Go code from the .proto files, with the plugins that internal/tools/go.mod pins (no network)
	@.ci/run generate

.PHONY: check-generate
check-generate: ## fail if what `make generate` writes is not what is committed
	@.ci/run proto

.PHONY: bench
bench: ## all of doc/performance.md: Turret beside other libraries, about ten minutes; BENCH=Refusal prints some of it
	@.ci/run measure

.PHONY: bench-packages
bench-packages: ## benchmarks of the root, to compare with benchstat; BENCH=Buffer takes some of them
	go test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (30s) each: longer than CI, for a change to what parses or schedules
	@.ci/run fuzz

.PHONY: faults
faults: ## break servers and connections under load, and check the promises (a minute)
	@.ci/run faults

# How long.
soak: FOR ?= 10m
.PHONY: soak
soak: ## full stacks at the machine's capacity for FOR (10m): memory flat, every attempt accounted for
	@FOR=$(FOR) .ci/run soak

.PHONY: mutants
mutants: ## break each promise that test/mutants/ names, and check that its tests fail (minutes)
	@.ci/run mutants

.PHONY: quickstart
quickstart: ## the README's example: three servers and a client, with and without a stack
	go run ./examples/quickstart

.PHONY: screenshots
screenshots: ## pictures of the quickstart's status page into doc/statusz/, with Chromium
	@SCREENSHOTS=$(CURDIR)/doc/statusz .ci/run browser

.PHONY: ci
ci: ## everything that CI does, in its order (about ten minutes the first time)
	@.ci/run
