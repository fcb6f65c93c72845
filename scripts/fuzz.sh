#!/usr/bin/env bash
# fuzz.sh [SECONDS]: runs every fuzz target for that long. Needs no nightly toolchain and no cargo-fuzz. What was found is
# under fuzz/artifacts/; `target/release/TARGET FILE` runs one input again.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

seconds=${1:-3600}
have python3 || apt_install python3
have ffmpeg || apt_install ffmpeg
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
# The versions of the program, and libFuzzer's on top.
cp Cargo.lock fuzz/Cargo.lock
RUSTC_WRAPPER=$PWD/fuzz/instrument.sh cargo build --release --manifest-path fuzz/Cargo.toml

seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
python3 tests/python/mutants.py "$seeds/clips" --count 300 --originals >/dev/null
for target in probe decode; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    say "fuzz: $target for $seconds s"
    "$CARGO_TARGET_DIR/release/$target" "fuzz/corpus/$target" "$seeds/clips" fuzz/found -max_total_time="$seconds" -timeout=60 \
        -rss_limit_mb=4096 -max_len=65536 -len_control=0 -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/"
done
