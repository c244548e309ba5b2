"""The encoder's kernels under sanitizers, without torch around them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# What the kernels take of torch: a loop divided among threads; here two, started anew for each loop.
PARALLEL = """
#pragma once
#include <algorithm>
#include <cstdint>
#include <thread>
namespace torch::stable {
template <typename Body>
void parallel_for(int64_t begin, int64_t end, int64_t grain, const Body& body) {
    if (end - begin <= grain) return begin < end ? body(begin, end) : void();
    const int64_t half = begin + (end - begin) / 2;
    std::thread other([&] { body(half, end); });
    body(begin, half);
    other.join();
}
}
"""


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_kernels_touch_nothing_but_their_own_memory(sanitizer, tmp_path):
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        pytest.skip("no C++ compiler")
    header = tmp_path / "torch" / "csrc" / "stable" / "ops.h"
    header.parent.mkdir(parents=True)
    header.write_text(PARALLEL)
    program = tmp_path / "kernels"
    command = [
        compiler, "-std=c++20", "-O0", "-DIKEM_MULTIVERSION=", "-pthread",
        f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all", f"-I{tmp_path}", f"-I{ROOT / 'csrc'}",
        Path(__file__).with_name("sanitize_kernels.cpp"), "-o", program,
    ]  # fmt: skip
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode and "cannot find" in built.stderr:
        pytest.skip(f"no -fsanitize={sanitizer} here: {built.stderr.splitlines()[-1]}")
    assert built.returncode == 0, built.stderr
    done = subprocess.run([program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
