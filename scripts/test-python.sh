#!/usr/bin/env bash
# Checks what simdrop wrote with programs of others. Where their environment cannot be made, says so loudly and goes on:
# the Rust tests do not need it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

if ! scripts/python-env.sh; then
    say "****************************************************************************************"
    say "*** SKIPPED: the Python checks (deploy, webdataset, PyAV, DuckDB, pyarrow, S3; kill) ***"
    say "*** .deps/venv could not be made; the reason stands above. Nothing of them was run.  ***"
    say "****************************************************************************************"
    exit 0
fi
python=.deps/venv/bin/python
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$python" tests/python/check_deploy.py
"$python" tests/python/check_render.py
target/release/simdrop run pipelines/demo.yaml --set "output.path=$work/demo" --progress none >/dev/null
"$python" tests/python/check_shards.py "$work/demo"
"$python" tests/python/check_s3.py
"$python" tests/python/check_s3_train.py
"$python" tests/python/check_hostile.py
"$python" tests/python/check_mutants.py --count 300
"$python" tests/python/check_mutants.py --count 60 --seed 2 --isolation process
"$python" tests/python/kill_resume.py --clips 24 --kills 4
