"""The short form of the search for convolutions that crash, spoil memory or compute something else."""

import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[3] / "tools" / "search_convolutions.py"


def test_no_convolution_of_an_encoder_crashes_or_is_wrong():
    command = [sys.executable, TOOL, "--quick", "--ways", "package", "module"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of " in done.stdout
