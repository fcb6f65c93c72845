#!/bin/sh
# Judges the artefact score with other numbers of draws, at other noise levels and from other models, and the reference's
# loss alone. Needs `make reference` and `make judge`. More arguments go to `simdrop run`.
set -eu
cd "$(dirname "$0")/.."
simdrop=target/release/simdrop
out=out/judge/ablations
"$simdrop" run pipelines/reference/ablations.yaml --overwrite --set "output.path=$out" "$@"
for score in k01 k03 k06 k12 t002 t005 t012 t025 t050 t095 from_base literal k06_reference_loss k06_base_loss; do
    printf '%-20s' "$score"
    "$simdrop" evaluate filter "$out" --score "$score" --worst-of uri --together noise,flicker,popping,teleport |
        awk '$1 == "noise" || $1 == "flicker" || $1 == "popping" || $1 == "teleport" || $1 == "together" && NF > 4 {
            printf "  %s %s", $1, $4 }'
    echo
done
