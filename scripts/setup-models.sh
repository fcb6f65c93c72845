#!/usr/bin/env bash
# Makes .deps/models, the Python environment of models/export.py (1.1 GB). Does nothing, in a moment, where it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

VENV=.deps/models
WANTED=models/requirements.txt

# The stamp is a copy of the requirements that the environment was made from.
cmp -s "$WANTED" "$VENV/requirements.txt" && "$VENV/bin/python" -c '' 2>/dev/null && exit

have python3 || apt_install python3
python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "the exporter needs Python 3.11 or newer"
say "setup: making $VENV for the exporter of graphs"
python3 -m venv --clear "$VENV"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: --requirement "$WANTED" >&2
cp "$WANTED" "$VENV/requirements.txt"
