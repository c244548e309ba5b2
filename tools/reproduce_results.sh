#!/usr/bin/env bash
# docs/results.md from real clips: prepare, pretrain, distil and evaluate, with three seeds.
# usage: tools/reproduce_results.sh FOLDER OUT [DATASET ...]
# FOLDER has utd_mhad.npz and nw_ucla.npz in the form that `prepare npz` reads; both are the default. What an
# interrupted run finished is kept.
set -euo pipefail
packed=$1
out=$2
shift 2
declare -A layout=([utd_mhad]=utd-mhad [nw_ucla]=kinect-v1)
declare -A train=([utd_mhad]=subject=1,3,5,7 [nw_ucla]=view=1,2)

evaluate() { # DATASET RUN CHECKPOINT NAME [OPTION ...]
    local name=$1 run=$2 checkpoint=$3 result=$4
    shift 4
    [ -f "$run/$result/linear.json" ] && return
    ikem-fast evaluate linear --data "$out/$name/data" --checkpoint "$run/$checkpoint" --out "$run/$result" \
        --seed "$seed" --probe sgd --baselines false "$@"
}

[ $# -gt 0 ] || set -- utd_mhad nw_ucla
for name in "$@"; do
    data=$out/$name/data
    ikem-fast prepare npz --file "$packed/$name.npz" --layout "${layout[$name]}" --train "${train[$name]}" --out "$data"
    for seed in 0 1 2; do
        run=$out/$name/seed$seed
        options=(--config "$name" --data "$data" --seed "$seed" --resume)
        ikem-fast pretrain "${options[@]}" --out "$run/six"
        ikem-fast distill "${options[@]}" --teacher "$run/six" --out "$run/student"
        ikem-fast pretrain "${options[@]}" --out "$run/three" --model.modalities '[joint,motion,bone]'
        evaluate "$name" "$run" six linear_untrained --untrained
        evaluate "$name" "$run" six linear_six
        evaluate "$name" "$run" student linear_student
        evaluate "$name" "$run" three linear_three
    done
    python "$(dirname "$0")/results_table.py" "$out/$name"
done
