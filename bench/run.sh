#!/bin/sh
# Prints the table of bench/README.md. ESP_NODE_BINARY and ESP_BUILD_DIR come
# from `make bench`.
set -eu
cd "$(dirname "$0")/.."
out=$ESP_BUILD_DIR/bench
mkdir -p "$out"
erlc -o "$out" bench/esp_bench.erl
export ESP_BENCH_PLUGIN="$out/bench_tasks.so"
export ERL_EPMD_ADDRESS=127.0.0.1
epmd -daemon
exec erl -noshell -noinput -name "esp_bench_$$@127.0.0.1" \
    -kernel inet_dist_use_interface '{127,0,0,1}' -kernel logger_level warning \
    +S 1 -pa _build/default/lib/erlangsp/ebin -pa "$out" -run esp_bench main
