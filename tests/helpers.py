"""What several tests share: which parts of the package are built here, and what a folder holds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ikem_fast.cli import main
from ikem_fast.nn.config import EncoderConfig
from ikem_fast.ops import _library


def needs_library(device_type):
    """A mark that skips a test, with the reason, where the compiled library has no kernels for a device."""
    support = _library.support_on(device_type)
    return pytest.mark.skipif(not support, reason=str(support.problem))


needs_kernel = needs_library("cpu")


# For tests of what is around an encoder: a tenth of the time of ST-GCN's ten blocks.
ONE_BLOCK = EncoderConfig("tcn", {"blocks": 1, "segments": 1})


def run(capsys, *words):
    """What a command of the command line ends with: its status, and what it wrote to both streams."""
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def contents(folder):
    """Name → bytes of every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Told to do without vector instructions (ATEN_CPU_CAPABILITY=default), torch 2.13's own compiler writes code
# with them that does not compile.
needs_inductor = pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() == "DEFAULT",
    reason="torch's compiler makes no code for a processor without vector instructions",
)


def pass_interpreted(tests):
    """Assert that a file of tests passes in a process whose Triton interprets; print what it prints.

    Triton chooses when it is first imported, so that these tests have no process in common with others.
    """
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tests],
        cwd=root,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    print(run.stdout[-12000:])
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
