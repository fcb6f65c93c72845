#!/bin/sh
# Trains the denoisers that score: frames of renders and real clips, then base, clean and artefact reference in turn.
# SEED=2 trains with another seed, OUT=… elsewhere.
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
data="$out/frames"
train base --set "data[0].dataset=$data" --set "data[1].dataset=$data"
train clean --set "data[0].dataset=$data" --set "init=$(ls "$out"/base/checkpoints/*.safetensors)"
train artefact --set "data[0].dataset=$data" --set "init=$(ls "$out"/clean/checkpoints/*.safetensors)"
for name in base clean artefact; do
    echo "$out/$name/model.onnx"
done
