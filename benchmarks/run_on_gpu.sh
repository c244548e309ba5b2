#!/usr/bin/env bash
# Everything that only a GPU can show, in one call: build, tests that need CUDA, all benchmarks.
# A part that fails is reported and hides no other. Results go to $OUT if set, else to benchmarks/results, where
# `python -m benchmarks publish` makes pages of them.
# usage: bash benchmarks/run_on_gpu.sh [python]
cd "$(dirname "$0")/.." || exit 1
python=${1:-python3}
out=${OUT:-benchmarks/results}
mkdir -p "$out"
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
failed=()

part() { # name, seconds, command...
    local name=$1 limit=$2
    shift 2
    echo "== $name"
    if ! timeout "$limit" "$@" > "$out/$name.log" 2>&1; then
        failed+=("$name")
    fi
    tail -n 15 "$out/$name.log"
}

subject() { # name, seconds
    part "$1" "$2" "$python" -m benchmarks "$1" --device cuda --out "$out"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv || true
part build 300 "$python" setup.py build_ext --inplace
part kernels 240 "$python" -m benchmarks kernels --quick --out "$out"
part tests 300 "$python" -m pytest tests -m cuda -q
subject losses 330
subject derivation 120
subject step 240
subject evaluation 120

if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]} (logs in $out)"
    exit 1
fi
echo "all parts done (results in $out)"
