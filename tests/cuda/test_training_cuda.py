"""Training on GPUs: what shows there alone, on one or on several."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ikem_fast.data import loader, open_dataset
from ikem_fast.nn import IKEM
from ikem_fast.runtime.processes import Processes
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain
from ikem_fast.train.step import WARM_UP, Step
from ikem_fast.train.task import Batch, View
from ikem_fast.train.tasks.pretrain import Pretraining

ROOT = Path(__file__).resolve().parents[2]
SMALL = ModelConfig(feature_dim=8, queue_size=16, hidden_channels=4, hidden_dim=12, dropout=0.0)

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
on_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two NVIDIA GPUs")


def settings(data, out, **changes):
    given = {"epochs": 2, "batch_size": 6, "lr": 0.05, "device": "cuda", "model": SMALL, **changes}
    return PretrainConfig(data=data, out=out, **given)


def losses(out):
    return [json.loads(line)["losses"] for line in (out / "metrics.jsonl").read_text().splitlines()]


def stepping(model, config, device="cuda:0"):
    """Call of a step in phase 2 on one batch, and the step."""
    step = Step(Pretraining(model, config.model, 1), config, Processes(0, 1, torch.device(device)))
    clips = torch.randn(config.batch_size, 3, 50, 25, 2, device=device)
    view = View(clips, {"shear": torch.eye(3, device=device).repeat(config.batch_size, 1, 1)})
    frames = torch.full((config.batch_size,), 60, device=device)
    return lambda: step(Batch(view, view, frames), config.batch_size, "exchange"), step


@on_two
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_the_second_gpu_trains_as_the_first_does(tiny_dataset, tmp_path, cuda_graph):
    """`--device cuda:1` in one process: streams, graphs and random numbers are on it, and weights move."""
    for name in ("cuda:0", "cuda:1"):
        out = tmp_path / name.replace(":", "")
        pretrain(settings(tiny_dataset, out, device=name, cuda_graph=cuda_graph, epochs=4))
    first, second = (losses(tmp_path / name) for name in ("cuda0", "cuda1"))
    for one, other in zip(first, second, strict=True):
        assert other == pytest.approx(one, rel=1e-2)
    assert first[-1] != first[0]


@on_two
@pytest.mark.parametrize("cuda_graph", ["false", "true"])
def test_two_gpus_train_and_end(tiny_dataset, tmp_path, cuda_graph):
    """nccl inside the captured step: the run must also end, which a graph that outlives it would prevent."""
    (tmp_path / "bare.yaml").write_text("pretrain: {}")
    options = f"""
        --config {tmp_path / "bare.yaml"} --data {tiny_dataset} --out {tmp_path / "run"} --epochs 3
        --batch-size 6 --lr 0.05 --cuda-graph {cuda_graph} --model.feature-dim 8 --model.queue-size 16
        --model.hidden-channels 4 --model.hidden-dim 12
    """
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    command = [sys.executable, *launcher, "-m", "ikem_fast", "pretrain", *options.split()]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    assert np.isfinite(losses(tmp_path / "run")).all()


def test_every_speed_setting_together_at_full_width():
    """Mixed precision, compiled encoders and a captured step, beside the eager step in float32."""
    torch.manual_seed(0)
    model = IKEM(queue_size=512, dropout=0.0).cuda().train()
    twin = IKEM(queue_size=512, dropout=0.0).cuda().train()
    twin.load_state_dict(model.state_dict())
    full = settings(".", ".", batch_size=16, lr=0.01, model=ModelConfig(queue_size=512, dropout=0.0))
    torch.manual_seed(1)
    fast, fast_step = stepping(model, replace(full, amp=True, compile="on", cuda_graph=True))
    torch.manual_seed(1)
    plain, plain_step = stepping(twin, full)
    with fast_step, plain_step:
        for _ in range(WARM_UP + 3):
            mine, theirs = fast().clone(), plain().clone()
    torch.testing.assert_close(mine, theirs, rtol=0.1, atol=0.1)


def test_replayed_steps_draw_new_dropout_masks():
    """The same batch, a rate of 0 and no momentum of the keys: only the masks differ from step to step."""
    model = IKEM(**{**vars(SMALL), "dropout": 0.5, "momentum": 1.0, "queue_size": 6}).cuda().train()
    call, step = stepping(model, settings(".", ".", lr=0.0, weight_decay=0.0, cuda_graph=True))
    with step:
        seen = [tuple(call().tolist()) for _ in range(WARM_UP + 4)]
    assert len(set(seen[WARM_UP + 1 :])) == 3


def test_clips_that_do_not_fit_come_through_the_ring_unharmed(tiny_dataset, monkeypatch):
    """No clip stays on the GPU: two pinned buffers take turns, none overwritten before it is copied."""
    monkeypatch.setattr(loader, "RESIDENT_SHARE", 0.0)
    split = open_dataset(tiny_dataset)["train"]
    batches = loader.BatchLoader(split, 5, "cuda", seed=3)
    assert batches.ring is not None
    for number, (clips, _) in enumerate(batches.epoch(0)):
        torch.cuda._sleep(10_000_000)  # the device lags behind the reader
        expected = np.asarray(split.clips[batches.places(0, number)])
        assert torch.equal(clips.cpu(), torch.from_numpy(expected))
