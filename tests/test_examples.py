"""Every example runs from start to end, as a user starts it, and prints what it is about."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SAYS = {
    "ops_in_your_loop": "nearest key of the first clip's joints: row ",
    "own_dataset": "top-1",
    "own_encoder": "step 10, phase 2: ",
    "published_checkpoint": "outputs (6, 4, 16), features (6, 4, 32)",
}


ELSEWHERE = {"exported_model"}  # needs a file: tests/predict/test_export.py exports one and runs it


def test_every_example_is_run():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(SAYS) | ELSEWHERE


@pytest.mark.parametrize("name", SAYS)
def test_example(name, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, ROOT / "examples" / f"{name}.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-4000:]
    assert SAYS[name] in run.stdout
    assert not any(tmp_path.iterdir()), "an example leaves files behind"
