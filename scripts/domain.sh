#!/bin/sh
# How well the domain score tells renders from real videos that no model has seen: the videos in two halves, base and clean
# reference trained with one, the other judged, and the other way round. Needs `make reference` and `make judge`.
set -eu
cd "$(dirname "$0")/.."
simdrop="${SIMDROP:-target/release/simdrop}"
judge="${JUDGE:-out/judge}"
frames="${FRAMES:-out/reference/frames}"
out="${OUT:-out/domain}"
seed="${SEED:-1}"

train() {
    recipe=$1
    shift
    "$simdrop" train "pipelines/reference/$recipe.yaml" --overwrite --set "seed=$seed" --set "output.path=$out/$name/$recipe" \
        --set "data[0].dataset=$frames" "$@"
}
fold() {
    name=$1 seen=$2
    shift 2
    train base --set "data[1].dataset=$frames" --set "data[0].where=source = 'real' and ($seen)"
    train clean --set "init=$(ls "$out/$name"/base/checkpoints/*.safetensors)"
    "$simdrop" run pipelines/reference/domain.yaml --overwrite --set "output.path=$out/$name/scored" \
        --set "sources[0].list=$judge/renders/judge.parquet" --set "sources[1].path=data/clips/real/$1" \
        --set "sources[2].path=data/clips/real/$2" --set "stages.score.models.base=$out/$name/base/model.onnx" \
        --set "stages.score.models.clean=$out/$name/clean/model.onnx"
    "$simdrop" sql "$out/$name/scored" -f scripts/domain.sql
}
fold a "uri like '%athlete%' or uri like '%bikes%'" carphone.mp4 walkers.mp4
fold b "uri like '%carphone%' or uri like '%walkers%'" 'athlete-*.mp4' bikes.mp4
