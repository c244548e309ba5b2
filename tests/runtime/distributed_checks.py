"""Checks that each of several processes makes; started by torchrun, see test_distributed.py.

Each check runs steps on the processes' shares of some batches, and the same steps on the whole batches in one
process, in float64: both must agree to rounding. Prints "<rank> <check> ok", or a traceback.
"""

import copy
import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM, RelationalDistiller
from ikem_fast.runtime.normalization import synchronize_normalization
from ikem_fast.runtime.processes import Processes, joined
from ikem_fast.train import ModelConfig, PretrainConfig
from ikem_fast.train.step import Step
from ikem_fast.train.task import Batch, View
from ikem_fast.train.tasks.distill import Distillation
from ikem_fast.train.tasks.pretrain import Pretraining
from tests.helpers import ONE_BLOCK

SIZES = dict(feature_dim=6, queue_size=16, hidden_channels=4, dropout=0.0, encoder=ONE_BLOCK)  # noqa: C408
BATCHES = (8, 8, 7, 1)  # even, even, uneven, fewer clips than processes
CONFIG = PretrainConfig(data=".", out=".", batch_size=8, lr=0.1, device="cpu", model=ModelConfig())


def pretraining():
    return Pretraining(IKEM(**SIZES, momentum=0.5), ModelConfig(), 1)


def distillation():
    return Distillation(RelationalDistiller(**SIZES), ModelConfig(), Path("teacher"))


def frozen_normalization(model, processes):
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def trained(build, phase, prepare, processes):
    """Losses and gradients of each step, and the state after the last."""
    torch.manual_seed(0)
    task = build()
    model = task.model.double().train()
    prepare(model, processes)
    step = Step(task, CONFIG, processes)
    history = []
    for size in BATCHES:
        share = processes.share(size).clips
        clips = torch.randn(size, 3, 12, 25, 2, dtype=torch.float64)
        frames = torch.randint(10, 60, (size,))
        views = [{"shear": torch.eye(3).double() + 0.1 * torch.randn(size, 3, 3).double()} for _ in range(2)]
        query, key = (View(clips[share], {"shear": view["shear"][share]}) for view in views)
        losses = step(Batch(query, key, frames[share]), size, phase)
        processes.add(losses)
        gradients = [p.grad.clone() for p in step.parameters if p.grad is not None]
        history.append((losses, gradients))
    return history, copy.deepcopy(model.state_dict())


def compare(build, phase, prepare, processes, same_statistics):
    history, state = trained(build, phase, prepare, processes)
    single, expected = trained(build, phase, prepare, Processes(0, 1, torch.device("cpu")))
    for (losses, gradients), (losses_1, gradients_1) in zip(history, single, strict=True):
        torch.testing.assert_close(losses, losses_1, rtol=1e-9, atol=1e-11)
        scale = max(gradient.abs().max() for gradient in gradients_1)
        torch.testing.assert_close(gradients, gradients_1, rtol=0, atol=1e-9 * scale.item())
    assert int(state["bank.pointer"]) == sum(BATCHES) % SIZES["queue_size"]
    for name, value in state.items():
        if "running" not in name or same_statistics:
            torch.testing.assert_close(value, expected[name], rtol=1e-7, atol=1e-9, msg=name)
    everyone = [None] * processes.size
    shared = {
        n: v for n, v in state.items() if n.startswith(("bank.", "key_encoders.")) and "running" not in n
    }
    dist.all_gather_object(everyone, shared)
    for other in everyone:
        assert all(torch.equal(other[name], value) for name, value in shared.items()), "ranks differ"


def errors_of_the_first(processes):
    """What goes wrong in the first process's work goes wrong in all, which would wait for it otherwise."""

    def work():
        assert processes.first
        raise InputError("expected nothing, found something")

    try:
        processes.of_first(work)
    except InputError as error:
        assert str(error) == "expected nothing, found something"
    else:
        raise AssertionError("no error")
    assert processes.of_first(lambda: processes.rank) == 0


CHECKS = {
    "contrast": lambda p: compare(pretraining, "contrast", frozen_normalization, p, True),
    "exchange": lambda p: compare(pretraining, "exchange", frozen_normalization, p, True),
    "distillation": lambda p: compare(distillation, "distillation", frozen_normalization, p, True),
    # A batch shared by all is counted by all in the unbiased variance: its running value differs slightly.
    "synchronized normalization": lambda p: compare(
        pretraining, "exchange", synchronize_normalization, p, False
    ),
    "errors of the first": errors_of_the_first,
}


def main():
    torch.set_num_threads(1)
    with joined("cpu") as processes:
        for name, check in CHECKS.items():
            try:
                check(processes)
            except Exception:
                traceback.print_exc()
                sys.exit(1)
            sys.stdout.write(f"{processes.rank} {name} ok\n")


if __name__ == "__main__":
    main()
