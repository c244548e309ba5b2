"""Ops over and over, in threads and processes and in poisoned memory, and the C++ parts under sanitizers."""

import os
import shutil
import subprocess

import torch

from ikem_fast.selftest import CASES
from tests.faults.runs import ROOT
from tests.ops import same_bits
from tools.torture.common import require

RUNS = 100


def same_bits_everywhere(folder, draw):
    """Every op 100 times by one and two threads, which is one try; in threads, poisoned memory, processes."""
    torch.set_num_threads(2)
    for name in CASES:
        for number, same in enumerate(same_bits.over_runs(name, RUNS)):
            require(same, f"{name}: other bits in run {number}")
        yield
        require(same_bits.in_threads(name), f"{name}: other bits in threads")
        yield
        require(same_bits.poisoned(name), f"{name}: other bits in poisoned memory")
        yield
        for method in ("fork", "spawn"):
            require(same_bits.in_process(name, method), f"{name}: other bits after {method}, or none")
            yield


def sanitized(folder, draw):
    """`make sanitize`."""
    if shutil.which(os.environ.get("CXX", "c++")) is None:
        return
    done = subprocess.run(["sh", "tools/sanitize.sh"], cwd=ROOT, capture_output=True, text=True)
    require(done.returncode == 0, f"{done.stdout[-1500:]}{done.stderr[-1500:]}")
    yield
