#!/bin/sh
# Judges the scores with other numbers of draws, at other noise levels, from references trained on other data, and the
# losses alone. Needs `make reference` and `make judge`. MODELS=… judges other denoisers, JUDGE=… on other scenes; more
# arguments go to `simdrop run`.
set -eu
cd "$(dirname "$0")/.."
simdrop=target/release/simdrop
models="${MODELS:-out/reference}"
judge="${JUDGE:-out/judge}"
frames="${FRAMES:-out/reference/frames}"
out=out/ablations
steps=1200

train() {
    [ -e "$out/$1/model.onnx" ] || "$simdrop" train pipelines/reference/artefact.yaml --overwrite --set "steps=$steps" \
        --set "output.path=$out/$1" --set "data[0].dataset=$frames" --set "data[0].where=$2" \
        --set "init=$(ls "$models"/clean/checkpoints/*.safetensors)"
}
train short "defect is not null"
train half "defect is not null and scene_id < '8'"
train noise "defect = 'noise'"

"$simdrop" run pipelines/reference/ablations.yaml --overwrite --set "sources[0].list=$judge/renders/judge.parquet" \
    --set "stages.score.models.base=$models/base/model.onnx" --set "stages.score.models.clean=$models/clean/model.onnx" \
    --set "stages.score.models.artefact=$models/artefact/model.onnx" "$@"
for score in k01 k03 k06 k12 t002 t005 t012 t025 t050 t095 peak03 peak06 peak12 peak_low from_base literal \
    short half noise short_peak half_peak noise_peak k06_reference_loss k06_base_loss; do
    printf '%-20s' "$score"
    "$simdrop" evaluate filter "$out/scored" --score "$score" --worst-of uri --together noise,flicker,popping,teleport |
        awk '$1 ~ /^(noise|flicker|popping|teleport|together)$/ && $4 ~ /^[01][.]/ { printf "  %s %s", $1, $4 }'
    echo
done
