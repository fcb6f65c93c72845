#!/bin/sh
# Judges the denoisers of `make reference` on scenes that they were not trained on: renders those, recompresses the clean ones
# (which should be told from clean ones by nobody), scores everything and prints how well the scores rank.
# SEED=4002 judges on fresh scenes, MODELS=… other denoisers, OUT=… elsewhere. More arguments go to `evaluate filter`.
set -eu
cd "$(dirname "$0")/.."
simdrop=target/release/simdrop
out="${OUT:-out/judge}"
models="${MODELS:-out/reference}"
seed="${SEED:-4001}"

scenes() { "$simdrop" render data/scenes/judge.yaml --set "seed=$seed" --set "output.path=$out/renders" "$@"; }
scenes
mkdir -p "$out/h264"
echo 'uri,defect,scene_id,family' >"$out/h264/list.csv"
scenes --list | grep '"defects":\[\]' |
    sed 's/.*"id":"\([0-9a-f]*\)","scene_id":"\([0-9a-f]*\)".*"family":"\([a-z]*\)".*/\1 \2 \3/' |
    while read -r id scene family; do
        clip="$out/h264/$id.mp4"
        [ -e "$clip" ] || ffmpeg -nostdin -v error -y -i "$out/renders/$id.mp4" -c:v libx264 -crf 28 -pix_fmt yuv420p "$clip"
        echo "$id.mp4,h264,$scene,$family" >>"$out/h264/list.csv"
    done
"$simdrop" run pipelines/reference/judge.yaml --overwrite --set "output.path=$out/scored" \
    --set "sources[0].list=$out/renders/judge.parquet" --set "sources[1].list=$out/h264/list.csv" \
    --set "stages.score.models.clean=$models/clean/model.onnx" \
    --set "stages.score.models.artefact=$models/artefact/model.onnx"
"$simdrop" evaluate filter "$out/scored" --score artefact_score,transient_score,measure_jump --together noise,flicker,popping,teleport --neutral h264 "$@"
