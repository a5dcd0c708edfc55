# The two commands: `make demo` shows the main job, `make test` proves it.

GO ?= go
FUZZTIME ?= 60s
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: demo test bench lint fuzz build

## demo: discovery, assertion, token and a FHIR read against a server of its own; needs only Go
demo:
	@$(GO) run ./examples/quickstart

## test: everything; what this machine can't run is named at the end as skipped
test:
	@sh .ci/test

## bench: the numbers to hold, as ratios measured in one run
bench:
	@cd integration && $(GO) run ./bench $(BENCHFLAGS)

## lint: gofmt, go vet, staticcheck, go mod tidy
lint:
	@sh .ci/lint $(STATICCHECK)

## fuzz: every fuzz target for FUZZTIME
fuzz:
	@sh .ci/fuzz $(FUZZTIME)

## build: the commands, into bin/
build:
	$(GO) build -o bin/ ./cmd/...
