# One front door. Each target is two or three lines; options are presets
# (CMakePresets.json). `make help` lists the targets.

.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory
TIME ?= 60
FILE ?=
SUITE ?=
RELEASE ?=

.PHONY: all help native native-clean deps deps-test demo shell test unit ct \
  asan tsan fuzz interop bench examples format lint dialyze xref headers rooms \
  clean

all: ## both halves
	rebar3 compile

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' \
	  Makefile

native: ## the C-node alone, into priv/
	@tools/build-native

native-clean:
	@tools/build-native clean

deps:
	@tools/install-deps build

deps-test:
	@tools/install-deps test

demo: deps ## install what is missing, build, run the main job (FILE=text)
	rebar3 compile
	sh examples/demo/run.sh "$(FILE)"

shell: ## an Erlang shell with a C-node attached
	rebar3 shell

test: deps-test ## every test of both languages; ends in N passed, N failed
	@tools/test

unit: ## doctest, one binary a room
	cmake --preset debug
	cmake --build --preset debug --target test_all
	tools/doctest build/debug

ct: ## Common Test against real nodes (SUITE=name for one)
	tools/ct _build/native $(if $(SUITE),--suite=test/$(SUITE:_SUITE=)_SUITE)

asan: ## both suites under AddressSanitizer and UBSan
	cmake --preset asan
	cmake --build --preset asan
	tools/doctest build/asan
	tools/ct build/asan $(if $(SUITE),--suite=test/$(SUITE:_SUITE=)_SUITE)

tsan: ## both suites under ThreadSanitizer, with a Boost.Fiber built for it
	tools/boost-source build/boost
	cmake --preset tsan
	cmake --build --preset tsan
	tools/doctest build/tsan
	tools/ct build/tsan $(if $(SUITE),--suite=test/$(SUITE:_SUITE=)_SUITE)

fuzz: ## every fuzzer, TIME=60 seconds each
	cmake --preset fuzz
	cmake --build --preset fuzz
	tools/fuzz build/fuzz $(TIME)

interop: ## other Debians' Erlang and compilers (RELEASE=trixie for one; root)
	@tools/interop $(RELEASE) \
	  $(if $(SUITE),--suite=test/$(SUITE:_SUITE=)_SUITE)

bench: all ## the figures, project beside BEAM
	cmake --preset release
	cmake --build --preset release --target esp_node benches
	ESP_NODE_BINARY=$(CURDIR)/build/release/esp_node \
	  ESP_BUILD_DIR=$(CURDIR)/build/release sh bench/run.sh

examples: all ## builds and runs the examples as their readers would
	tools/examples

format: ## C++ by clang-format; Erlang is a habit
	git ls-files '*.cpp' '*.hpp' | xargs clang-format -i

lint: ## clang-tidy and xref: advice
	cmake --preset debug
	run-clang-tidy -quiet -p build/debug "$(CURDIR)/c_src/.*"
	rebar3 xref

xref: ## calls to functions that are not there
	rebar3 xref

dialyze: ## success typings
	rebar3 dialyzer

headers: ## each header compiles alone
	cmake --preset debug
	tools/headers build/debug

rooms: ## who includes whom; an upward include fails
	@tools/rooms

clean: ## what a build made
	rm -rf build
	rebar3 clean
