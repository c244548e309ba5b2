#!/usr/bin/env bash
# Everything that only a GPU can show, in stages that each leave their results (benchmarks/day.py says which), and a
# first page of what holds. Called again it goes on where it was ended. Results go to $OUT if set, else to runs/gpu.
# usage: bash benchmarks/run_on_gpu.sh [--rehearse] [stage...]      (PYTHON: which one, python3 if not set)
cd "$(dirname "$0")/.." || exit 1
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv || true
PYTHONPATH=$PWD exec "${PYTHON:-python3}" -m benchmarks.day --out "${OUT:-runs/gpu}" "$@"
