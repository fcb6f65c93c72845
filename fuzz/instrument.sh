#!/usr/bin/env bash
# A wrapper of rustc: counts which branches of simdrop and of the fuzz targets are taken, for libFuzzer. The flags are those
# of cargo-fuzz; on these crates alone, so that all others are built once for the program and for this.
set -euo pipefail
name=
for ((at = 1; at <= $#; at++)); do
    [ "${!at}" = --crate-name ] && next=$((at + 1)) && name=${!next}
done
case "$name" in
simdrop | probe | decode)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
    ;;
*) exec "$@" ;;
esac
