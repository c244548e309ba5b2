"""The step's speed settings: what they are refused for, and that they change nothing else."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM
from ikem_fast.runtime.processes import Processes
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain
from ikem_fast.train.budget import Progress
from ikem_fast.train.step import WARM_UP, Step
from ikem_fast.train.task import Batch, View
from ikem_fast.train.tasks.pretrain import Pretraining
from tests.helpers import needs_inductor

MODEL = ModelConfig(
    feature_dim=8, queue_size=16, hidden_channels=4, hidden_dim=12, dropout=0.0, modalities=("joint", "bone")
)
ALONE = Processes(0, 1, torch.device("cpu"))
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def settings(data, out, **changes):
    return PretrainConfig(
        **{"data": data, "out": out, "epochs": 1, "batch_size": 10, "lr": 0.05, "device": "cpu",
           "model": MODEL, **changes}
    )  # fmt: skip


def task(model):
    return Pretraining(model, MODEL, 1)


def losses(out):
    return [json.loads(line)["losses"] for line in (out / "metrics.jsonl").read_text().splitlines()]


class Small(nn.Module):
    """The least that is an encoder and has a normalisation."""

    def __init__(self):
        super().__init__()
        self.convolution, self.normalisation = nn.Conv2d(3, 12, (5, 1)), nn.BatchNorm2d(12)
        self.fc = nn.Linear(12, 8)

    def forward(self, x):
        feature = self.normalisation(self.convolution(x.flatten(3))).relu().mean((2, 3))
        return self.fc(feature), feature


@needs_inductor
def test_compiled_encoders_agree_with_eager_ones():
    """Two batches of each phase, and a smaller one that runs eagerly; the names in checkpoints stay."""
    batches = [(torch.randn(n, 3, 20, 25, 2), torch.full((n,), 60)) for n in (10, 10, 4)]
    runs = {}
    for way in ("off", "on"):
        torch.manual_seed(0)
        model = IKEM(**vars(MODEL) | {"encoder": Small}).train()
        steps = [(phase, batch) for phase in ("contrast", "exchange") for batch in batches]
        with Step(task(model), settings(".", ".", compile=way), ALONE) as step:
            runs[way] = [
                step(Batch(View(clips), View(clips), frames), len(clips), phase)
                for phase, (clips, frames) in steps
            ]
        assert list(model.state_dict()) == list(IKEM(**vars(MODEL) | {"encoder": Small}).state_dict())
    torch.testing.assert_close(runs["on"], runs["off"], rtol=1e-4, atol=1e-5)


def test_a_cuda_graph_is_refused_without_a_gpu(tiny_dataset, tmp_path):
    with pytest.raises(InputError, match="cuda_graph: expected a run on a GPU, found device cpu"):
        pretrain(settings(tiny_dataset, tmp_path / "run", cuda_graph=True))
    assert not (tmp_path / "run").exists()


def test_linear_scaling_of_the_learning_rate(tmp_path):
    config = settings(tmp_path, tmp_path, lr=0.1, batch_size=512, lr_milestones=(2,))
    at = {epoch: Progress(steps=0, epoch=epoch, batch=0, share=0) for epoch in (1, 3)}
    assert config.learning_rate(at[1]) == pytest.approx(0.1)
    scaled = replace(config, lr_scaling="linear")
    assert [scaled.learning_rate(progress) for progress in at.values()] == pytest.approx([0.4, 0.04])


def test_fused_sgd_is_sgd():
    """Five steps, a parameter joining at the third, as exchange heads do, against torch's plain loop."""
    torch.manual_seed(0)
    model = IKEM(**vars(MODEL))
    step = Step(task(model), settings(".", "."), ALONE)
    mine = [p for p in step.parameters if p.dim() > 1][:4]
    theirs = [p.detach().clone().requires_grad_() for p in mine]
    plain = torch.optim.SGD(theirs, lr=0.05, momentum=0.9, weight_decay=1e-4, foreach=False)
    for number in range(5):
        for i, (p, t) in enumerate(zip(mine, theirs, strict=True)):
            p.grad = None if i == 0 and number < 2 else torch.randn_like(p)
            t.grad = None if p.grad is None else p.grad.clone()
        step.optimizer.step()
        plain.step()
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.cuda
@on_gpu
def test_a_replayed_run_is_an_eager_one(tiny_dataset, tmp_path, monkeypatch):
    """Batches of 4: six steps an epoch, replayed from the fourth on; both phases; resumed in the middle."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    config = settings(
        tiny_dataset, tmp_path / "eager", epochs=4, exchange_from=3, batch_size=4, device="cuda",
        model=replace(MODEL, dropout=0.0),
    )  # fmt: skip
    pretrain(config)
    pretrain(replace(config, out=tmp_path / "graph", cuda_graph=True))
    pretrain(replace(config, out=tmp_path / "resumed", cuda_graph=True, epochs=2))
    pretrain(replace(config, out=tmp_path / "resumed", resume=True))
    for eager, graph, resumed in zip(
        *(losses(tmp_path / w) for w in ("eager", "graph", "resumed")), strict=True
    ):
        assert graph == pytest.approx(eager, rel=1e-3)
        assert resumed == pytest.approx(eager, rel=1e-3)


@pytest.mark.cuda
@on_gpu
@pytest.mark.parametrize("exchange", [False, True])
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_no_step_waits_for_the_gpu(exchange, cuda_graph):
    model = IKEM(**vars(MODEL)).cuda().train()
    phase = "exchange" if exchange else "contrast"
    config = settings(".", ".", batch_size=4, device="cuda", cuda_graph=cuda_graph)
    step = Step(task(model), config, Processes(0, 1, torch.device("cuda", 0)))
    clips, frames = torch.randn(4, 3, 50, 25, 2, device="cuda"), torch.full((4,), 60, device="cuda")
    view = View(clips, {"shear": torch.eye(3, device="cuda").repeat(4, 1, 1)})
    batch = Batch(view, view, frames)
    for _ in range(WARM_UP + 2):  # loads kernels, captures
        step(batch, 4, phase)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            step(batch, 4, phase)
    finally:
        torch.cuda.set_sync_debug_mode("default")
