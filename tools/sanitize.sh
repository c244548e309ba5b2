#!/bin/sh
# `make sanitize`: the C++ parts under sanitizers. The encoder's kernels by themselves under ASan + UBSan and under
# TSan (tests/ops/encoder); then the whole extension, built anew into build/sanitized, under ASan + UBSan.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
flags="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
"$python" -m pytest -q tests/ops/encoder/test_sanitized_kernels.py
# A compiler of one word, as torch's build wants it.
mkdir -p build
printf '#!/bin/sh\nexec %s %s "$@"\n' "${CXX:-c++}" "$flags" > build/sanitizing-c++
chmod +x build/sanitizing-c++
CXX=$PWD/build/sanitizing-c++ MAX_JOBS=${MAX_JOBS:-2} "$python" setup.py -q build \
    --build-lib build/sanitized --build-temp build/sanitized-objects
# The C++ library comes with it: what throws ahead of it would find no handler.
runtime="$(${CXX:-c++} -print-file-name=libasan.so) $(${CXX:-c++} -print-file-name=libstdc++.so)"
cd build/sanitized
# What Python and torch keep to the end is not ours to free; the stack is torch's threads'.
LD_PRELOAD="$runtime" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 PYTHONPATH=$PWD \
    "$OLDPWD/$python" "$OLDPWD/tools/run_kernels.py" "$OLDPWD/tests/data/skeleton_corpus.zip"
