#!/usr/bin/env bash
# place-binary.sh PATH: makes sure that the built program is at PATH, also where Cargo builds elsewhere
# (CARGO_TARGET_DIR, or build.target-dir in a configuration file).
set -euo pipefail
cd "$(dirname "$0")/.."

built=$(cargo metadata --no-deps --format-version 1 --locked | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/simdrop
[ "$built" -ef "$1" ] && exit
mkdir -p "$(dirname "$1")"
# By a rename, since a program that runs cannot be written to.
cmp -s "$built" "$1" || { cp "$built" "$1.new" && mv "$1.new" "$1"; }
