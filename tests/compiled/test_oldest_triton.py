"""The kernels with the oldest Triton that is promised, which is the one that comes with the oldest torch."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from ikem_fast.ops._triton import OLDEST
from tests.compiled import test_encoder_kernels

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/oldest-triton"


def test_it_is_the_one_that_the_package_asks_for():
    asked = re.search(r"triton>=([\d.]+)", (ROOT / "pyproject.toml").read_text()).group(1)
    assert asked == ".".join(map(str, OLDEST))


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no older Triton is installed beside ours (make oldest)")
def test_every_kernel_compiles():
    run = subprocess.run(
        [sys.executable, "-m", "tests.compiled.every_kernel"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": f"{FOLDER}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    version, *names = run.stdout.split()
    assert tuple(map(int, version.split(".")[:2])) == OLDEST
    of_losses = {"similarities", "weighted_keys", "pair_sums", "gradients", "weights", "nearest"}
    of_blocks = test_encoder_kernels.PRODUCTS | test_encoder_kernels.PASSES | {"moments"}
    assert of_losses | {"unit_rows", "losses", "feature_gradients"} | of_blocks == set(names)
