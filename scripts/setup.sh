#!/usr/bin/env bash
# setup.sh [run|test]: makes a fresh machine ready to build and run, or also to test: system packages, ONNX Runtime, and a
# check for Rust. Does nothing, in a moment, where nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

RUST=1.95
ORT=1.31.1
ORT_DIR=.deps/onnxruntime
ORT_FILE=$ORT_DIR/libonnxruntime.so.$ORT
FOR=${1:-run}

# Packages that are missing, judged by what they bring and not by dpkg, so that FFmpeg built by hand counts as well.
missing_packages() {
    local library
    # What Cargo.toml's features of ffmpeg-next link to.
    have pkg-config || echo pkg-config
    for library in libavcodec libavformat libavutil libswscale; do
        pkg-config --exists "$library" 2>/dev/null || echo "$library-dev"
    done
    # bindgen loads libclang and asks clang for its header folders.
    have clang && has_libclang || echo clang libclang1
    # A linker and the C library's headers.
    { have cc && echo '#include <stdlib.h>' | cc -E - >/dev/null 2>&1; } || echo build-essential
    [ -f "$ORT_FILE" ] || have_pip || echo python3-pip
    # The tests make odd videos with the command line.
    [ "$FOR" = run ] || { have ffmpeg && have ffprobe; } || echo ffmpeg
}

has_libclang() {
    [ -n "${LIBCLANG_PATH:-}" ] && return
    { find -L /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/local/lib -maxdepth 1 \
        \( -name 'libclang.so*' -o -name 'libclang-[0-9]*.so*' \) 2>/dev/null || true; } | grep -q .
}

have_pip() { python3 -m pip --version >/dev/null 2>&1; }

system_packages() {
    local missing
    read -ra missing <<<"$(missing_packages | tr '\n' ' ')"
    [ "${#missing[@]}" = 0 ] && return
    apt_install "${missing[@]}"
    read -ra missing <<<"$(missing_packages | tr '\n' ' ')"
    [ "${#missing[@]}" = 0 ] || die "still missing after the installation: ${missing[*]}"
}

rust() {
    local how="get Rust from https://rustup.rs (or your distribution's package rustup), open a new shell and try again"
    local version
    have cargo || { [ -x "$HOME/.cargo/bin/cargo" ] && export PATH="$HOME/.cargo/bin:$PATH"; } \
        || die "cargo was not found; $how"
    version=$(cargo --version | cut -d ' ' -f 2) || die "cargo does not run; $how"
    [ "$(printf '%s\n' "$RUST" "$version" | sort -V | head -n 1)" = "$RUST" ] \
        || die "Rust $version is too old, $RUST or newer is needed: rustup update stable"
}

# ONNX Runtime's shared library, out of the Python wheel: the library does not depend on the version of Python, so
# one wheel a machine type is enough, and pip checks its hash.
onnxruntime() {
    local machine wheels
    machine=$(uname -m)
    if [ ! -f "$ORT_FILE" ]; then
        [ "$(uname -s)" = Linux ] && [ -f "scripts/onnxruntime-$machine.txt" ] || die \
            "no ONNX Runtime is pinned for $(uname -s) $machine; set ORT_DYLIB_PATH to a libonnxruntime.so of version $ORT"
        say "setup: fetching ONNX Runtime $ORT"
        mkdir -p "$ORT_DIR"
        wheels=$(mktemp -d .deps/wheel.XXXXXX)
        # shellcheck disable=SC2064
        trap "rm -rf '$wheels'" EXIT
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
            --implementation cp --python-version 3.12 --abi cp312 --platform "manylinux_2_28_$machine" \
            --dest "$wheels" --requirement "scripts/onnxruntime-$machine.txt" >&2 \
            || die "pip could not fetch ONNX Runtime; is the package registry within reach?"
        python3 - "$wheels" "$ORT" <<'PYTHON'
import pathlib
import sys
import zipfile

folder, version = pathlib.Path(sys.argv[1]), sys.argv[2]
wheel = next(folder.glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    for name in (f"libonnxruntime.so.{version}", "libonnxruntime_providers_shared.so"):
        (folder / name).write_bytes(archive.read(f"onnxruntime/capi/{name}"))
PYTHON
        mv "$wheels"/libonnxruntime_providers_shared.so "$ORT_DIR/"
        # Last, and by a rename: the file is whole or not there.
        mv "$wheels/libonnxruntime.so.$ORT" "$ORT_FILE"
        rm -rf "$wheels"
    fi
    [ "$(readlink "$ORT_DIR/libonnxruntime.so")" = "libonnxruntime.so.$ORT" ] \
        || ln -sfn "libonnxruntime.so.$ORT" "$ORT_DIR/libonnxruntime.so"
}

system_packages
rust
case "${ORT_DYLIB_PATH:-}" in
    "" | */"$ORT_DIR"/*) onnxruntime ;;
    *) [ -e "$ORT_DYLIB_PATH" ] || die "ORT_DYLIB_PATH names $ORT_DYLIB_PATH, which is not there; unset it or correct it" ;;
esac
