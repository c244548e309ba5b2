#!/usr/bin/env bash
# Everything that only a GPU can show, in one call: build, tests that need CUDA, all benchmarks.
# A part that fails is reported and hides no other. Results go to $OUT if set, else to benchmarks/results.
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

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv || true
part build 300 "$python" setup.py build_ext --inplace
part resources 240 "$python" -m benchmarks.resources
part tests 300 "$python" -m pytest tests -m cuda -q
part losses 330 "$python" -m benchmarks.bench_losses --device cuda --out "$out"
part derive 120 "$python" -m benchmarks.bench_derive --out "$out"
part step 240 "$python" -m benchmarks.bench_step --device cuda --rounds 5 --out "$out"
part augment 120 "$python" -m pytest --benchmark benchmarks/bench_augment.py -q --benchmark-json "$out/augment-gpu.json"

if [ ${#failed[@]} -gt 0 ]; then
    echo "failed: ${failed[*]} (logs in $out)"
    exit 1
fi
echo "all parts done (results in $out)"
