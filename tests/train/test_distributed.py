"""Two and four processes on one machine compute what one does: gradients, banks, whole runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHECKS = ("contrast", "exchange", "distillation", "synchronised normalisation")
OPTIONS = """
    --epochs 2 --batch-size 7 --lr 0.05 --device cpu --sync-bn --model.dropout 0
    --model.feature-dim 8 --model.queue-size 16 --model.hidden-channels 4 --model.hidden-dim 12
"""
RUN = OPTIONS.split()


def torchrun(processes, *words):
    command = (
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        if processes > 1
        else [sys.executable]
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [*command, *map(str, words)], capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT
    )


@pytest.fixture(scope="module", params=[2, 4])
def checked(request):
    return request.param, torchrun(request.param, HERE / "distributed_checks.py")


@pytest.mark.parametrize("check", CHECKS)
def test_many_processes_compute_what_one_does(checked, check):
    """Losses, summed gradients, weights and keys, after even, uneven and very small batches."""
    processes, done = checked
    for rank in range(processes):
        assert f"{rank} {check} ok" in done.stdout, done.stderr[-4000:]


def pretrain(processes, data, out, *words):
    done = torchrun(processes, "-m", "ikem_fast", "pretrain", "--data", data, "--out", out, *RUN, *words)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_a_run_goes_on_with_another_number_of_processes(tiny_dataset, tmp_path):
    """24 clips in batches of 7: shares of four are uneven, and the last batch has three."""
    expected = pretrain(1, tiny_dataset, tmp_path / "one")
    pretrain(4, tiny_dataset, tmp_path / "several", "--epochs", 1)
    found = pretrain(2, tiny_dataset, tmp_path / "several", "--resume")
    assert len(found) == 2
    for one, several in zip(expected, found, strict=True):
        assert several["losses"] == pytest.approx(one["losses"], rel=1e-3)

    done = torchrun(
        2, "-m", "ikem_fast", "pretrain", "--data", tiny_dataset, "--out", tmp_path / "several", *RUN
    )
    assert done.returncode and "go on with --resume true" in done.stderr


def test_an_error_in_one_process_ends_all(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(
        "import torch\n"
        "from ikem_fast.errors import InputError\n"
        "from ikem_fast.train.distributed import joined\n"
        "with joined('cpu') as processes:\n"
        "    if processes.rank == 1:\n"
        "        raise InputError('one went wrong')\n"
        "    processes.add(torch.zeros(1))\n"
        "    print('went on')\n"
    )
    done = torchrun(2, script)
    assert done.returncode and "one went wrong" in done.stderr and "went on" not in done.stdout
