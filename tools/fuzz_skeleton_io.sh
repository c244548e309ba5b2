#!/bin/sh
# Fuzz the parsers of .skeleton files, tables and nested arrays: tools/fuzz_skeleton_io.sh CORPUS_DIR [SECONDS]
# Needs clang. CORPUS_DIR may hold files to start from (unzip tests/data/skeleton_corpus.zip there: what earlier
# runs found); what is found is added, and an input that breaks the parser left as crash-*, timeout-* or oom-*.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
corpus=${1:?usage: $0 CORPUS_DIR [SECONDS]}
seconds=${2:-600}
mkdir -p "$corpus"
target=$(mktemp)
trap 'rm -f "$target"' EXIT
clang++ -std=c++17 -O1 -g -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
    "$here/fuzz_skeleton_io.cpp" -o "$target"
"$target" -max_total_time="$seconds" -max_len=65536 -timeout=5 -rss_limit_mb=1024 -use_value_profile=1 \
    -dict="$here/fuzz_skeleton_io.dict" -artifact_prefix="$corpus/" -print_final_stats=1 "$corpus"
