#!/usr/bin/env bash
# mutants.sh COUNT [SEED]: runs simdrop over that many damaged clips (tests/python/check_mutants.py).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

scripts/python-env.sh || die "the check needs .deps/venv, which could not be made; the reason stands above"
exec .deps/venv/bin/python tests/python/check_mutants.py --count "$1" --seed "${2:-1}"
