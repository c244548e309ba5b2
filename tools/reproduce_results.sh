#!/usr/bin/env bash
# docs/results.md from real clips: prepare, pretrain in every way that the tables compare, distil, evaluate.
# usage: tools/reproduce_results.sh FOLDER OUT [DATASET ...]
# FOLDER has utd_mhad.npz, nw_ucla.npz and sbu.npz in the form that `prepare npz` reads; all are the default.
# SEEDS="0 1 2" says which seeds, and may be split over processes. What an interrupted run finished is kept.
# METHODS="crossclr skeletonclr" says which stand beside ikem, and may be empty; ONLY=six leaves all but the six out.
set -euo pipefail
packed=$1
out=$2
shift 2
[ $# -gt 0 ] || set -- utd_mhad nw_ucla sbu

prepare() { # NAME FILE LAYOUT OPTION ...
    local data=$out/$1/data file=$2 layout=$3
    shift 3
    [ -f "$data/dataset.json" ] || ikem-fast prepare npz --source "$packed/$file.npz" --layout "$layout" --out "$data" "$@"
}

evaluate() { # PROTOCOL RUN OPTION ...
    local protocol=$1 run=$2
    shift 2
    local result=$run/${protocol}_${1:-default}
    result=${result//--/}
    [ -f "$result/$protocol.json" ] ||
        ikem-fast evaluate "$protocol" --data "$data" --checkpoint "$run" --out "$result" --seed "$seed" "$@"
}

reproduce() { # NAME
    data=$out/$1/data
    for seed in ${SEEDS:-0 1 2}; do
        run=$out/$1/seed$seed
        common=(--data "$data" --seed "$seed" --resume)
        ikem-fast pretrain "${common[@]}" --out "$run/six"
        evaluate linear "$run/six" --probe=ridge
        evaluate knn "$run/six"
        evaluate linear "$run/six" --probe=sgd --baselines false
        [ "${ONLY:-}" = six ] && continue
        ikem-fast pretrain "${common[@]}" --out "$run/three" --model.modalities '[joint,motion,bone]'
        ikem-fast distill "${common[@]}" --out "$run/student" --teacher "$run/six"
        for method in ${METHODS-crossclr skeletonclr}; do
            ikem-fast pretrain "${common[@]}" --out "$run/$method" --method "$method"
        done
        for other in three student ${METHODS-crossclr skeletonclr}; do
            evaluate linear "$run/$other" --probe=ridge --baselines false
            evaluate knn "$run/$other" --baselines=false
        done
    done
}

for name in "$@"; do
    case $name in
    utd_mhad) prepare utd_mhad utd_mhad utd-mhad --train subject=1,3,5,7 && reproduce utd_mhad ;;
    nw_ucla) prepare nw_ucla nw_ucla kinect-v1 --train view=1,2 && reproduce nw_ucla ;;
    sbu)
        fold=0
        for pairs in s01s02,s03s04,s05s02,s06s04 s02s03,s02s07,s03s05,s05s03 s01s03,s01s07,s07s01,s07s03 \
            s02s01,s02s06,s03s02,s03s06 s04s02,s04s03,s04s06,s06s02,s06s03; do
            fold=$((fold + 1))
            prepare "sbu$fold" sbu sbu --up y-down --center clip --align clip --test "subject=$pairs" && ONLY=six reproduce "sbu$fold"
        done
        ;;
    *) echo "$name: expected utd_mhad, nw_ucla or sbu" >&2 && exit 2 ;;
    esac
done
