#!/bin/sh
# Trains the denoisers that score: frames of renders and real clips, then base, clean and artefact reference in turn.
# SEED=2 trains with another seed, OUT=… elsewhere. CAPTIONS=1 trains with the renders' captions as condition, the references
# with what moves left out of them, as arXiv 2503.20822 does: they find a little less (docs/simdrop.md).
set -eu
cd "$(dirname "$0")/.."
simdrop=target/release/simdrop
out="${OUT:-out/reference}"
seed="${SEED:-1}"

"$simdrop" run pipelines/reference/frames.yaml --set "output.path=$out/frames"
train() {
    name=$1
    shift
    "$simdrop" train "pipelines/reference/$name.yaml" --overwrite --set "seed=$seed" --set "output.path=$out/$name" "$@"
}
tune() {
    name=$1 from=$2
    set -- --set "init=$(ls "$out/$from"/checkpoints/*.safetensors)"
    [ -z "${CAPTIONS:-}" ] || set -- "$@" --set "condition.encoder=$encoder" --set "data[0].leave_out=[action, camera]"
    train "$name" --set "data[0].dataset=$data" "$@"
}
data="$out/frames"
encoder=data/models/minilm-l6-v2-int8.onnx
set -- --set "data[0].dataset=$data" --set "data[1].dataset=$data"
[ -z "${CAPTIONS:-}" ] || set -- "$@" --set "condition.encoder=$encoder"
train base "$@"
tune clean base
tune artefact clean
for name in base clean artefact; do
    echo "$out/$name/model.onnx"
done
