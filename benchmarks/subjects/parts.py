"""What a step of training consists of on a GPU, part by part, counted without one.

The step runs on tensors without memory, in plain torch but for the fused operators; every operation on them
is noted. Of the losses what counts is what the bank kernels are launched with.
"""

import contextlib
import itertools
import math
from collections import Counter, defaultdict
from unittest import mock

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks import show
from benchmarks.run import RESULTS, read_results
from benchmarks.subject import Subject
from benchmarks.subjects import step as steps
from ikem_fast.nn import STGCN
from ikem_fast.ops._support import YES

SIZE = (128, 32768)
COUNTED = RESULTS / "parts-cpu.jsonl"
CARDS = ("H200", "H100", "RTX 4090")
SPANS = ("ikem_fast.nn.ikem.span", "ikem_fast.nn.distiller.span", "ikem_fast.train.step.span")
# Nothing runs on a GPU for these, for views, and for questions ("prim").
FREE = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view")
FUSED, PLAIN = "fused", "plain torch"  # ways of the encoders
BANK = ("attention", "relations", "relations_backward", "nearest")


class Noted(TorchDispatchMode):
    """Notes the operations of each part: {part: Counter of "launches", "bytes", "operations"}.

    limits: by part, (bytes, operations, `Launch` or None) of each.

    allocated: how often storages of how many bytes were made.
    """

    def __init__(self):
        super().__init__()
        self.part, self.parts, self.allocated = "rest", defaultdict(Counter), Counter()
        self.limits = defaultdict(list)

    @contextlib.contextmanager
    def span(self, name):
        """In place of `tracing.span`."""
        before, self.part = self.part, name
        try:
            yield
        finally:
            self.part = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given, made = (
            {t.untyped_storage()._cdata: t for t in tree_leaves(tree) if isinstance(t, torch.Tensor)}
            for tree in ((args, kwargs), out)
        )
        for key, tensor in made.items():
            if key not in given and not func.is_view:
                self.allocated[tensor.untyped_storage().nbytes()] += 1
        namespace, name = func._schema.name.split("::")
        if func.is_view or name in FREE or namespace == "prim" or (namespace == "ikem_fast" and name in BANK):
            return out
        packet = func._overloadpacket
        operations = (
            flop_registry[packet](*args, **(kwargs or {}), out_val=out) if packet in flop_registry else 0
        )
        moved = sum(t.numel() * t.element_size() for t in (given | made).values())
        self.add(moved, operations)
        return out

    def add(self, moved, operations, launch=None):
        self.parts[self.part].update(launches=1, bytes=moved, operations=operations)
        self.limits[self.part].append((moved, operations, launch))

    def add_kernel(self, launch):
        """Add a `Launch` of one of the encoder's kernels."""
        from benchmarks import encoder_kernels

        moved, multiply_adds = encoder_kernels.work(launch)
        self.add(moved, 2 * multiply_adds, launch)


def noted(phase, N, K, steps_taken=1, encoders=PLAIN, **width):
    """[`Noted` of each step]: of one in mixed precision, on tensors without memory.

    An operation that would have the host wait for what a tensor holds raises there.
    """
    found, current = [], [None]
    model = steps.make_model(phase, K, impl="reference", **width).train()
    for module in (model, getattr(model, "teacher", None)):
        if module is not None:
            module.impl = "auto"  # of the losses
    for module in model.modules():
        if isinstance(module, STGCN):
            module.impl = "fused" if encoders == FUSED else "reference"
    mode = FakeTensorMode()
    without_memory(model, mode)
    with mode, contextlib.ExitStack() as patches:
        call = steps.ours(model, N)
        clips, frames = torch.empty(N, 3, 50, 25, 2), torch.empty(N, dtype=torch.int64)
        starts = torch.empty(N, dtype=torch.int64)
        views = [{"shear": torch.empty(N, 3, 3), "crop_start": starts} for _ in range(2)]
        for target in SPANS:
            patches.enter_context(mock.patch(target, lambda name: current[0].span(name)))
        if encoders == FUSED:
            patches.enter_context(kernels_as_on_a_gpu(lambda launch: current[0].add_kernel(launch)))
        # Values are looked at on a CPU alone.
        patches.enter_context(mock.patch("ikem_fast.ops.modalities.api.check_per_clip"))
        for _ in range(steps_taken):
            current[0] = Noted()
            with current[0]:
                call(clips, frames, views, phase)
            found.append(current[0])
    return found


@contextlib.contextmanager
def kernels_as_on_a_gpu(note):
    """Have the encoders take the Triton kernels, and each launch call note(`Launch`), on an H200."""
    from benchmarks import encoder_kernels, predict

    with (
        mock.patch("ikem_fast.nn.encoders.stgcn.support_for", lambda *_: YES),
        mock.patch("ikem_fast.ops.encoder.by_triton", lambda x: True),
        mock.patch("ikem_fast.nn.encoders.stgcn.by_triton", lambda x: True),
        encoder_kernels.on_card(predict.CARDS["H200"], note),
    ):
        yield


def without_memory(model, mode):
    """Have a model's parameters and buffers pretend: they have shapes alone."""
    for module in model.modules():
        for name, tensor in module._parameters.items():
            if tensor is not None:
                module._parameters[name] = nn.Parameter(
                    mode.from_tensor(tensor.detach()), tensor.requires_grad
                )
        for name, tensor in module._buffers.items():
            module._buffers[name] = tensor if tensor is None else mode.from_tensor(tensor)


def add_losses(counted, phase, N, K):
    """The launches of the bank kernels, on an H200."""
    from benchmarks import predict
    from benchmarks.compiled import launches

    losses = {
        "contrast": ("info_nce",),
        "exchange": ("cross_modal_contrast", "implicit_exchange"),
        "distillation": ("relational_distillation",),
    }[phase]
    for name in losses:
        for when, call in predict.calls(name, N, K).items():
            counted.part = "backward" if when == "backward" else "loss"
            for launch in launches(predict.CARDS["H200"], call):
                work = predict.work(launch)
                counted.add(work.memory + work.cache + work.after, 2 * work.multiply_adds)


def seconds(limits, card):
    """Of launches on a card: what binds each, at the share that good kernels reach, and their starts."""
    from benchmarks import encoder_kernels, predict

    rate = 2 * card.multiply_adds * card.multiprocessors * card.clock
    bound, known = 0.0, {}
    for moved, operations, launch in limits:
        if launch is None:
            bound += max(moved / card.memory, operations / rate)
            continue
        key = launch.name, launch.grid, moved, operations, str(launch.variant)
        if key not in known:
            known[key] = encoder_kernels.seconds(launch, card)
        bound += known[key]
    return bound / predict.REACHED + len(limits) * predict.LAUNCH


def measure(run):
    from benchmarks import predict

    tiny = run.settings.tiny
    N, K = (4, 64) if tiny else SIZE
    width = {"hidden_channels": 4, "hidden_dim": 16} if tiny else {}
    cards = CARDS[:1] if tiny else CARDS  # whose kernels are compiled
    for phase, encoders in itertools.product(steps.PHASES, (FUSED, PLAIN)):
        (counted,) = noted(phase, N, K, encoders=encoders, **width)
        add_losses(counted, phase, N, K)
        for part, counts in counted.parts.items():
            bounds = {name: seconds(counted.limits[part], predict.CARDS[name]) for name in cards}
            run.record(phase=phase, encoders=encoders, part=part, N=N, K=K, **counts, predicted=bounds)


def totals(results, phase, encoders=FUSED):
    """Of all parts: launches, bytes, operations, and seconds by card."""
    rows = show.pick(results.rows, phase=phase, encoders=encoders)
    counts = [sum(row[name] for row in rows) for name in ("launches", "bytes", "operations")]
    return *counts, {card: math.fsum(row["predicted"][card] for row in rows) for card in rows[0]["predicted"]}


def clips_per_second(card):
    """Of a step of phase 2 as one graph, as last counted; None for a card that was not, or before any was."""
    if card not in CARDS or not COUNTED.is_file():
        return None
    results = read_results(COUNTED)
    return results.rows[0]["N"] / totals(results, "exchange")[-1][card]


def table(results):
    lines, cards = [], list(results.rows[0]["predicted"])
    for phase in steps.PHASES:
        rows = show.pick(results.rows, phase=phase, encoders=FUSED)
        N = rows[0]["N"]
        cells = [
            (row["part"], row["launches"], row["bytes"], row["operations"], row["predicted"]) for row in rows
        ]
        cells += [
            ("all", *totals(results, phase)),
            ("all, encoders in plain torch", *totals(results, phase, PLAIN)),
        ]
        lines += ["", f"**{phase}**, {N} clips:", ""]
        lines += show.table(
            ("part", "launches|", "MB a clip|", "GFLOP a clip|", *(f"{card}, ms|" for card in cards)),
            [
                (
                    part, launches, f"{moved / N / 1e6:.1f}", f"{operations / N / 1e9:.2f}",
                    *(f"{bounds[card] * 1e3:.2f}" for card in cards),
                )
                for part, launches, moved, operations, bounds in cells
            ],
        )  # fmt: skip
    return lines[1:]


def headline(results):
    N, said = results.rows[0]["N"], []
    for encoders in (FUSED, PLAIN):
        launches, moved, _operations, bounds = totals(results, "exchange", encoders)
        said.append(
            f"{launches:,} launches, {moved / N / 1e6:,.0f} MB and {show.written(N / bounds['H200'])}"
        )
    return (
        f"Counted: a step of phase 2 is {said[0]} clips/s at most by rates of an H200, as one graph, {N} "
        f"clips at a time (MB of a clip); with the encoders in plain torch it is {said[1]}."
    )


SUBJECT = Subject(
    devices=("cpu",),
    about="""What a step consists of on a GPU, counted without one: every operation in mixed precision, with
the bytes that it reads and writes; losses and encoders by what their kernels are launched with. Milliseconds
are not measured: each launch by what binds it, bytes, multiply-adds or, of the encoders' kernels, compiled
ahead of time, instructions and bytes of the caches (`benchmarks/encoder_kernels.py`), at 85% of a card's
rates, and 1.5 µs for a start out of a CUDA graph. In plain torch encoders are counted as they are without
`--compile`, which fuses what is between the convolutions.""",
    measure=measure,
    show=table,
    headline=headline,
)
