"""`pytest` runs the tests; `pytest --benchmark` runs the benchmarks in benchmarks/ instead.

`pytest -n auto` (pytest-xdist; what `make test` does) runs the tests in a process for each core.
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
# Tests and benchmarks import `benchmarks` (and `ikem_fast`, installed or not) from the checkout.
sys.path.insert(0, str(ROOT))

# Beside other test processes, one takes its share of the cores, and so do processes that it starts; where it
# is told to take more, threads that wait leave their cores to others. torch reads this when it is imported.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    threads = max(os.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_addoption(parser):
    parser.addoption("--benchmark", action="store_true", help="run the benchmarks in benchmarks/")


def pytest_configure(config):
    named = config.args_source == config.ArgsSource.ARGS
    if config.getoption("--benchmark") and not named:
        config.args = [str(ROOT / "benchmarks")]


def pytest_collect_file(file_path, parent):
    """Benchmarks are found under --benchmark alone; a file named on the command line finds itself."""
    found = file_path.match("benchmarks/bench_*.py") and not parent.session.isinitpath(file_path)
    if found and parent.config.getoption("--benchmark"):
        return pytest.Module.from_parent(parent, path=file_path)
    return None
