"""Every fused kernel of a device against the reference: do they agree here, and how fast are both?"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from ikem_fast import ops
from ikem_fast.errors import printable
from ikem_fast.nn.encoders.stgcn import STGCN

# Of the norm of a result. The gradient of ten blocks jumps where an activation passes 0: plain torch in
# float32 is up to 0.003 from float64 there.
TOLERANCE = 1e-2
REPEATS = 2
CLIPS, FRAMES, JOINTS, BODIES = 8, 50, 25, 2
MODALITIES, BATCH, BANK, SIZE = 3, 64, 4096, 64

Result = tuple[torch.Tensor, ...]
Case = Callable[[torch.device], Callable[[str], Result]]


@dataclass(frozen=True)
class Outcome:
    """What became of one kernel.

    name: of the op. device: where.
    error: the norm of the difference from the reference, as a share of the reference's; infinite where it
        raised, None where there is no such kernel.
    fused, reference: milliseconds; None where it did not run.
    problem: why there is none, or what is wrong.
    """

    name: str
    device: str
    error: float | None = None
    fused: float | None = None
    reference: float | None = None
    problem: str | None = None


def self_test(device: torch.device) -> Iterator[Outcome]:
    """Run every op in both ways on a device, forwards and back, and yield what became of each.

    Example:
        for outcome in self_test(torch.device("cpu")):
            print(outcome.name, outcome.problem or outcome.error)
    """
    for name, case in CASES.items():
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                run = case(device)
            wanted, reference = _timed(partial(run, "reference"), device)
            found, fused = _timed(partial(run, "fused"), device)
        except Exception as error:  # whatever it raises is what is to be known of it
            absent = isinstance(error, RuntimeError) and "impl='fused' is not possible" in str(error)
            problem = printable(error if absent else f"{type(error).__name__}: {error}")
            yield Outcome(name, str(device), error=None if absent else math.inf, problem=problem)
            continue
        error = max(_difference(a, b) for a, b in zip(found, wanted, strict=True))
        wrong = f"differs from the reference by {error:.1g} of its norm"
        yield Outcome(name, str(device), error, fused, reference, None if error <= TOLERANCE else wrong)


def _difference(found, wanted):
    difference = (found.double() - wanted.double()).norm() / wanted.double().norm().clamp(min=1e-30)
    return difference.item() if difference.isfinite() else float("inf")


def _timed(run, device):
    """The result, and the least of some times in milliseconds; the first is for warming up."""
    result, times = run(), []
    for _ in range(REPEATS):
        _wait(device)
        began = time.perf_counter()
        result = run()
        _wait(device)
        times.append(1000 * (time.perf_counter() - began))
    return result, min(times)


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _with_gradient(compute: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Result:
    x = x.detach().requires_grad_()
    y = compute(x)
    y.square().sum().backward()
    return y.detach(), x.grad


def _modalities(device):
    x = torch.randn(CLIPS, 3, FRAMES, JOINTS, BODIES).to(device)
    frames = torch.full((CLIPS,), 90, device=device)
    return lambda impl: _with_gradient(lambda y: ops.derive_modalities(y, frames, impl=impl), x)


def _preprocessing(device):
    raw = torch.randn(3, CLIPS * 70, JOINTS, BODIES).cumsum(1).to(device)
    lengths = torch.full((CLIPS,), 70, device=device)
    return lambda impl: (ops.preprocess_clips(raw, lengths, impl=impl)[0],)


def _bank(loss, wide=False):
    def case(device):
        bank = torch.nn.functional.normalize(torch.randn(MODALITIES, BANK, SIZE), dim=2).to(device)
        x = torch.randn(MODALITIES, BATCH, SIZE * (MODALITIES if wide else 1)).to(device)
        keys = torch.nn.functional.normalize(torch.randn(MODALITIES, BATCH, SIZE), dim=2).to(device)
        return lambda impl: _with_gradient(lambda y: loss(y, keys, bank, impl=impl), x)

    return case


def _neighbors(device):
    bank = torch.nn.functional.normalize(torch.randn(MODALITIES, BANK, SIZE), dim=2).to(device)
    q = torch.randn(MODALITIES, BATCH, SIZE).to(device)
    return lambda impl: (ops.nearest_neighbors(q, bank, 2, impl=impl)[0],)


def _encoder(device):
    encoder = STGCN(hidden_channels=8, hidden_dim=64, dropout=0.0).to(device)
    x = torch.randn(CLIPS, 3, FRAMES, JOINTS, BODIES).to(device)

    def run(impl):
        encoder.impl = impl
        return _with_gradient(lambda y: encoder(y)[1], x)

    return run


# A new op is a line here.
CASES: dict[str, Case] = {
    "derive_modalities": _modalities,
    "preprocess_clips": _preprocessing,
    "info_nce": _bank(ops.info_nce),
    "cross_modal_contrast": _bank(ops.cross_modal_contrast),
    "implicit_exchange": _bank(ops.implicit_exchange, wide=True),
    "relational_distillation": _bank(ops.relational_distillation, wide=True),
    "nearest_neighbors": _neighbors,
    "blocks of STGCN": _encoder,
}
