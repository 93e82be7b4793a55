# A thin door to Meson: `make` builds, `make demo` shows, `make test` proves. `make help` lists all.
BUILD ?= build
SEEDS ?= 100
FIRST ?= 1

.PHONY: all help deps demo test sim sim-mutants check bench format clean
all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile

deps: ## install the Debian packages of packaging/debian-packages.txt
	@tools/deps.sh

$(BUILD)/build.ninja:
	@tools/deps.sh --if-missing
	@meson setup $(BUILD) >/dev/null

demo: all ## one computer on this host, a real workload, and what survives (CHECK=1: unattended)
	@BUILD=$(BUILD) CHECK=$(CHECK) tools/demo.py

test: all ## unit tests, simulation, end to end
	@BUILD=$(BUILD) tools/test.sh

sim: all ## SEEDS=N FIRST=S: whole computers under virtual time (SEED=S replays one)
	@$(BUILD)/sim/unum-sim $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --first $(FIRST)) $(if $(TRACE),--trace)

sim-mutants: ## compile each mutation in and show the seed that finds it
	@tools/sim_mutants.sh

check: ## sanitizers with both compilers, clang-tidy, layers, format, fuzzers for a bounded time
	@tools/check.sh

bench: all ## side by side with the peers
	@BUILD=$(BUILD) bench/run.sh

format: ## rewrite the sources in the one style
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	@rm -rf $(BUILD) build-*
