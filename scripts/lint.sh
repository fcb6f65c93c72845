#!/usr/bin/env bash
# Formatting and clippy. Adds the two components through rustup where they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

component() {
    cargo "$1" --version >/dev/null 2>&1 && return
    have rustup || die "cargo $1 is missing; install it (Debian: apt-get install $2)"
    rustup component add "$3" || die "cargo $1 is missing and could not be added: rustup component add $3"
}

component fmt rustfmt rustfmt
component clippy rust-clippy clippy
cargo fmt --check
cargo clippy --all-targets --release --locked -- -D warnings
