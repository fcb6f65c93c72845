#!/usr/bin/env bash
# Makes .deps/clouds, the servers that tests/python/check_clouds.py talks to. Does nothing, in a moment, where it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

FOLDER=.deps/clouds
WANTED=scripts/clouds-requirements.txt
AZURITE=3.35.0

# The stamp is what was asked for.
stamp() { cat "$WANTED" && echo "azurite $AZURITE"; }
cmp -s <(stamp) "$FOLDER/requirements.txt" && exit

have npm || apt_install nodejs npm
have python3 || apt_install python3
python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv
say "setup: making $FOLDER: Azurite and fake-gcs-server"
npm install --prefix "$FOLDER" --no-audit --no-fund --ignore-scripts --loglevel=error "azurite@$AZURITE" >&2
python3 -m venv --clear "$FOLDER/venv"
"$FOLDER/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: --requirement "$WANTED" >&2
stamp >"$FOLDER/requirements.txt"
