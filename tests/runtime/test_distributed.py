"""Two and four processes on one machine compute what one does: gradients, banks, whole runs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ikem_fast.train import ModelConfig, PretrainConfig, pretrain

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHECKS = ("contrast", "exchange", "distillation", "synchronized normalization", "errors of the first")


def torchrun(processes, *words):
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
    command = [sys.executable, *launcher, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=1200, env=environment, cwd=ROOT)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def checked(request):
    return request.param, torchrun(request.param, HERE / "distributed_checks.py")


@pytest.mark.parametrize("check", CHECKS)
def test_many_processes_compute_what_one_does(checked, check):
    """Losses, summed gradients, weights and keys, after even, uneven and very small batches; see there."""
    processes, done = checked
    for rank in range(processes):
        assert f"{rank} {check} ok" in done.stdout, done.stderr[-4000:]


def test_a_run_goes_on_with_another_number_of_processes(tiny_dataset, tmp_path):
    """Begun in one process, gone on with two: 24 clips in batches of 7, the last of three clips."""
    model = ModelConfig(
        feature_dim=8, queue_size=16, hidden_channels=4, hidden_dim=12, dropout=0.0,
        modalities=("joint", "motion"),
    )  # fmt: skip
    config = PretrainConfig(
        data=tiny_dataset, out=tmp_path / "one", epochs=2, batch_size=7, lr=0.05, device="cpu",
        sync_bn=True, model=model,
    )  # fmt: skip
    pretrain(config)
    pretrain(replace(config, out=tmp_path / "several", epochs=1))
    (tmp_path / "bare.yaml").write_text("pretrain: {}")  # the settings' defaults, no recipe
    options = f"""
        --config {tmp_path / "bare.yaml"}
        --data {tiny_dataset} --out {tmp_path / "several"} --resume --epochs 2 --batch-size 7 --lr 0.05
        --device cpu --sync-bn --model.dropout 0 --model.feature-dim 8 --model.queue-size 16
        --model.hidden-channels 4 --model.hidden-dim 12 --model.modalities [joint,motion]
    """
    done = torchrun(2, "-m", "ikem_fast", "pretrain", *options.split())
    assert done.returncode == 0, done.stderr[-4000:]
    one, several = (
        [json.loads(line) for line in (tmp_path / way / "metrics.jsonl").read_text().splitlines()]
        for way in ("one", "several")
    )
    assert several[0]["losses"] == one[0]["losses"] and len(several) == 2
    # float32, and rounding grows from step to step; without momenta or banks it would be another run.
    assert several[1]["losses"] == pytest.approx(one[1]["losses"], rel=5e-3)


def test_an_error_in_one_process_ends_all(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(
        "import torch\n"
        "from ikem_fast.errors import InputError\n"
        "from ikem_fast.runtime.processes import joined\n"
        "with joined('cpu') as processes:\n"
        "    if processes.rank == 1:\n"
        "        raise InputError('one went wrong')\n"
        "    processes.add(torch.zeros(1))\n"
        "    print('went on')\n"
    )
    done = torchrun(2, script)
    assert done.returncode and "one went wrong" in done.stderr and "went on" not in done.stdout
