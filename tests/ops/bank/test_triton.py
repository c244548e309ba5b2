"""The Triton kernels without a GPU, under Triton's interpreter (compiled ahead of time: tests/compiled)."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import pass_interpreted

triton = pytest.importorskip("triton")

ROOT = Path(__file__).resolve().parents[3]


def test_under_the_interpreter():
    """Among what it prints is a table of errors."""
    pass_interpreted(Path(__file__).with_name("interpreted_losses.py"))


def test_both_ways_of_allowing_tf32_are_heeded():
    """torch's current setting, after which its old one raises, and the old one."""
    code = """
import torch
from ikem_fast.ops import _triton
assert _triton.precision() == "tf32x3"
torch.set_float32_matmul_precision("high")
assert _triton.precision() == "tf32"
torch.set_float32_matmul_precision("highest")
assert _triton.precision() == "tf32x3"
torch.backends.cuda.matmul.fp32_precision = "tf32"
assert _triton.precision() == "tf32"
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_an_older_triton_is_named(monkeypatch):
    """As what could not be imported, for which plain torch computes."""
    monkeypatch.setattr(triton, "__version__", "3.5.1")
    with pytest.raises(ImportError, match=r"expected Triton 3\.6 or newer, found 3\.5\.1"):
        runpy.run_path(str(ROOT / "ikem_fast/ops/_triton.py"))
