# Only Go 1.26 and make are needed. What else is missing, Postgres and Temporal,
# is brought by internal/dev.

GO ?= go

# The race detector needs a C compiler with its headers.
RACE := $(shell [ "$$($(GO) env CGO_ENABLED)" = 1 ] && echo '\#include <stdlib.h>' | $$($(GO) env CC) -E - >/dev/null 2>&1 && echo -race)

.PHONY: build dev stop demo prepare test test-all chaos fuzz bench

build: ## bin/worker and bin/starter
	$(GO) build -o bin/ ./worker ./starter

dev: build ## keep Postgres, Temporal and a worker running; Ctrl-C or make stop ends them
	@exec bin/worker -dev

stop: build ## end what make dev keeps running
	@bin/worker -stop

demo: build ## the main job on a copy of Go's source tree
	@bin/starter demo

prepare:
	@$(GO) run ./internal/dev/prepare

test: prepare ## the quick form of every test, at most 10 minutes on two cores
	$(if $(RACE),,@echo 'no C compiler: tests run without the race detector' >&2)
	$(GO) test -short $(RACE) -timeout 10m $(TESTFLAGS) ./...

test-all: prepare ## the full form, at most 60 minutes
	$(if $(RACE),,@echo 'no C compiler: tests run without the race detector' >&2)
	$(GO) test $(RACE) -timeout 60m $(TESTFLAGS) ./...

CHAOS ?= 10m

chaos: prepare ## kill workers, Postgres and Temporal at random for CHAOS, and count what must hold; REHOME_SEED repeats its choices
	REHOME_CHAOS=$(CHAOS) $(GO) test ./worker -count=1 -v -timeout 24h -run 'TestChaos$$'

FUZZ ?= 1m

fuzz: prepare ## look for inputs that break a parser, each for FUZZ; what is found stays in its testdata
	@grep -ro 'func Fuzz[A-Za-z]*' --include='*_test.go' . | sed 's|/[^/]*:func | |' | while read -r package name; do \
		$(GO) test $$package -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) -fuzzminimizetime 10x </dev/null || exit 1; \
	done

bench: prepare ## against the same work in plain SQL; writes bench/RESULTS.md
	$(GO) run ./bench
