#!/usr/bin/env bash
# docs/results.md from real clips: prepare, pretrain, distil and evaluate UTD-MHAD and NW-UCLA.
# usage: tools/reproduce_results.sh FOLDER_WITH_NPZ OUT     (utd_mhad.npz, nw_ucla.npz in the form `prepare npz` reads)
set -euo pipefail
packed=$1
out=$2

one() { # NAME LAYOUT TRAIN
    local data=$out/$1/data
    ikem-fast prepare npz --file "$packed/$1.npz" --layout "$2" --train "$3" --out "$data"
    ikem-fast pretrain --config "$1" --data "$data" --out "$out/$1/teacher" --resume
    ikem-fast distill --config "$1" --data "$data" --teacher "$out/$1/teacher" --out "$out/$1/student" --resume
    ikem-fast evaluate linear --data "$data" --checkpoint "$out/$1/teacher" --out "$out/$1/linear_untrained" --untrained
    ikem-fast evaluate linear --data "$data" --checkpoint "$out/$1/teacher" --out "$out/$1/linear_trained"
    ikem-fast evaluate linear --data "$data" --checkpoint "$out/$1/student" --out "$out/$1/linear_student"
}

one utd_mhad utd-mhad subject=1,3,5,7
one nw_ucla kinect-v1 view=1,2
python "$(dirname "$0")/results_table.py" "$out/utd_mhad" "$out/nw_ucla"
