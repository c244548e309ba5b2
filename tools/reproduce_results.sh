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

# Where people go and how they turn stays in a clip: of few clips more is learned so. Two are seen from between.
prepare() { # NAME FORMAT FILE SEEN OPTION ...
    local data=$out/$1/data format=$2 file=$3 seen=$4
    shift 4
    [ -f "$data/dataset.json" ] ||
        ikem-fast prepare "$format" --source "$packed/$file.npz" --out "$data" --center "$seen" --align "$seen" "$@"
}

evaluate() { # PROTOCOL RUN OPTION ...  (results go to the run, or where $into says)
    local protocol=$1 run=$2
    shift 2
    local result=${into:-$run}/${protocol}_${1:-default}
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

# The same evaluations without test clips that are training clips' copies, in OUT/NAME_new.
without_copies() { # NAME
    local kind into others kinds='six three student'
    [ "${ONLY:-}" = six ] && kinds=six
    data=$out/$1/data
    for seed in ${SEEDS:-0 1 2}; do
        for kind in $kinds; do
            others=()
            [ "$kind" = six ] || others=(--baselines=false)
            run=$out/$1/seed$seed/$kind
            into=$out/$1_new/seed$seed/$kind
            evaluate linear "$run" --probe=ridge "${others[@]}" --drop-copies=true
            evaluate knn "$run" "${others[@]}" --drop-copies=true
        done
    done
}

for name in "$@"; do
    case $name in
    utd_mhad)
        prepare utd_mhad npz utd_mhad clip --layout utd-mhad --train subject=1,3,5,7
        reproduce utd_mhad
        ;;
    nw_ucla)
        prepare nw_ucla npz nw_ucla clip --layout kinect-v1 --train view=1,2
        reproduce nw_ucla
        without_copies nw_ucla
        ;;
    sbu)
        for fold in 1 2 3 4 5; do
            prepare "sbu$fold" sbu sbu pair --fold "$fold" --up y-down
            METHODS='' reproduce "sbu$fold"
        done
        ;;
    *) echo "$name: expected utd_mhad, nw_ucla or sbu" >&2 && exit 2 ;;
    esac
done
