"""The encoder's Triton kernels without a GPU, under Triton's interpreter (compiled: tests/compiled)."""

from pathlib import Path

import pytest

from tests.helpers import pass_interpreted

pytest.importorskip("triton")


def test_under_the_interpreter():
    pass_interpreted(Path(__file__).with_name("interpreted_blocks.py"))
