"""A whole training step of each phase, against the published formulation of the same step.

On a CPU every way takes its turn in a new process each round: how a process came by its memory is up to half
of what a large step costs.
"""

import functools
import multiprocessing
import time
from collections import defaultdict
from pathlib import Path

import torch

from benchmarks import run as runner
from benchmarks import show
from benchmarks.published.step import PublishedStep
from benchmarks.subject import Subject
from ikem_fast import MODALITIES, augment
from ikem_fast.nn import IKEM, RelationalDistiller
from ikem_fast.nn.config import ModelConfig
from ikem_fast.runtime.device import choose_device
from ikem_fast.runtime.processes import Processes
from ikem_fast.train.config import PretrainConfig
from ikem_fast.train.step import Step
from ikem_fast.train.task import Batch, View
from ikem_fast.train.tasks.distill import Distillation
from ikem_fast.train.tasks.pretrain import Pretraining

PUBLISHED = "published"
PHASES = ("contrast", "exchange", "distillation")
PARTS = ("augment+derive", "query", "key", "loss", "backward", "optimiser")
# Steps ahead of the first that is timed: a process has then allocated what it will, a GPU captured its graph.
WARM_UP = {"cpu": 1, "cuda": 5}
# Of one encoder and one clip (3,50,25,2), forward; a backward pass is two forward passes.
FLOP_PER_CLIP = 1.2e9
FORWARD_PASSES = {"contrast": 6 * 3 + 6, "exchange": 6 * 3 + 6, "distillation": 3 * 3 + 6}


def make_model(phase, K, modalities=MODALITIES, dropout=0.5, impl="auto", device="cpu", **width):
    torch.manual_seed(0)
    teacher = IKEM(queue_size=K, modalities=modalities, dropout=dropout, impl=impl, **width)
    if phase != "distillation":
        return teacher.to(device)
    options = {"queue_size": K, "modalities": modalities, "dropout": dropout, "impl": impl}
    return RelationalDistiller(teacher=teacher, **options, **width).to(device)


def make_batch(N, device="cpu"):
    """Clips, frame counts, and the parameters of two views."""
    generator = torch.Generator().manual_seed(1)
    clips = torch.randn(N, 3, 50, 25, 2, generator=generator)
    clips[::2, ..., 1] = 0
    frames = torch.randint(20, 200, (N,), generator=generator)
    views = [
        {
            "shear": augment.draw_shear(N, generator=generator).to(device),
            "crop_start": augment.draw_crop_start(N, 50, generator=generator).to(device),
        }
        for _ in range(2)
    ]
    return clips.to(device), frames.to(device), views


def ours(model, N, device="cpu", *, amp=True, lr=0.1, **speed):
    """The trainer's own step: call(clips, frames, views, phase) → losses."""
    config = PretrainConfig(data=Path(), out=Path(), batch_size=N, amp=amp, lr=lr, **speed)
    alone = Processes(0, 1, choose_device(device))

    distills = isinstance(model, RelationalDistiller)
    task = Distillation(model, ModelConfig(), Path()) if distills else Pretraining(model, ModelConfig(), 1)
    step = Step(task, config, alone)

    def call(clips, frames, views, phase):
        first, second = (View(clips, view) for view in views)
        query, key = (second, first) if distills else (first, second)  # a teacher takes the key's
        return step(Batch(query, key, frames), len(clips), phase)

    return call


def speeds(device):
    """Name of a way → its settings of `ours`; None for the published step."""
    known = {PUBLISHED: None, "this package, float32": {"amp": False}, "this package, bfloat16": {}}
    if device == "cuda":
        known |= {
            "this package, bfloat16, compiled": {"compile": "max"},
            "this package, bfloat16, CUDA graph": {"cuda_graph": True},
            "this package, bfloat16, compiled, CUDA graph": {"compile": "max", "cuda_graph": True},
        }
    return known


def make_step(way, phase, N, K, device, modalities=MODALITIES, **width):
    """call(clips, frames, views, phase) → losses, on a model of its own; all ways' have the same weights."""
    if way == PUBLISHED:
        return PublishedStep(make_model(phase, K, modalities, impl="reference", device=device, **width))
    return ours(make_model(phase, K, modalities, device=device, **width), N, device, **speeds(device)[way])


def check_agreement(phase, device="cpu", N=16, K=64):
    """Without dropout, two steps give the published losses: the second with weights that the first moved."""
    batch = make_batch(N, device)
    options = {"K": K, "dropout": 0.0, "device": device, "hidden_channels": 4, "hidden_dim": 32}
    steps = {
        "published": PublishedStep(make_model(phase, impl="reference", **options), lr=0.01),
        "float32": ours(make_model(phase, **options), N, device, amp=False, lr=0.01),
        "bfloat16": ours(make_model(phase, **options), N, device, lr=0.01),
    }
    for _ in range(2):
        losses = {name: step(*batch, phase).float() for name, step in steps.items()}
        for name, tolerance in (("float32", 1e-3), ("bfloat16", 0.05)):
            off = ((losses[name] - losses["published"]).abs() / losses["published"].abs()).max().item()
            if not off < tolerance:
                raise AssertionError(f"{phase}: {name} losses are {off:.1e} away from the published step's")


def timed(call, device):
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def parts_of(call):
    """Seconds in each named part of one call; deriving is taken out of the part it happens in."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profile:
        call()
    seconds = defaultdict(float)
    for event in profile.events():
        if event.name in PARTS:
            seconds[event.name] += event.cpu_time_total / 1e6
            parent = event.cpu_parent
            while parent is not None and parent.name not in PARTS:
                parent = parent.cpu_parent
            if parent is not None:
                seconds[parent.name] -= event.cpu_time_total / 1e6
    return dict(seconds)


def sample(phase, way, N, K, device, steps, modalities=MODALITIES, parts=False, **width):
    """{"seconds": of each of `steps` steps, "peak_gb", "parts"} of a step that starts from nothing."""
    batch = make_batch(N, device)
    call = functools.partial(make_step(way, phase, N, K, device, modalities, **width), *batch, phase)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP[device]):
        call()
    seconds = [timed(call, device) for _ in range(steps)]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else runner.resident("VmHWM")
    return {"seconds": seconds, "peak_gb": peak / 1e9} | ({"parts": parts_of(call)} if parts else {})


def apart(device, function, *arguments, **options):
    """The call in a process of its own on a CPU, where none gives back all that it took."""
    if device == "cuda":
        return function(*arguments, **options)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments, options)


def measure_on_cpu(run, phase, N, K, rounds):
    """Ways take turns."""
    taken = {way: [] for way in speeds("cpu")}
    for turn in range(rounds):
        for way, samples in taken.items():
            samples.append(apart("cpu", sample, phase, way, N, K, "cpu", 1, parts=turn == 0))
    for way, samples in taken.items():
        figures = runner.summary([s for one in samples for s in one["seconds"]])
        peak = max(one["peak_gb"] for one in samples)
        run.record(phase=phase, way=way, N=N, K=K, **figures, peak_gb=peak, parts=samples[0]["parts"])


def measure_in_order(run, N, K, steps, **width):
    """Phase 2 first, and what takes a compilation last: a limit may end the run."""
    ways = sorted(speeds(run.device), key=lambda way: ("compiled" in way, way == PUBLISHED))
    for phase in sorted(PHASES, key=lambda phase: phase != "exchange")[: 1 if run.settings.tiny else None]:
        if not run.settings.tiny:
            check_agreement(phase, run.device)
        for way in ways:
            taken = sample(phase, way, N, K, run.device, steps, **width)
            figures = runner.summary(taken["seconds"])
            run.record(phase=phase, way=way, N=N, K=K, **figures, peak_gb=taken["peak_gb"])


def points(device, memory_gb, gb_a_clip):
    """(batch, bank, modalities) of the sweep: batches that fit, by the memory a clip was seen to take."""
    largest = min(4096 if device == "cuda" else 256, memory_gb / gb_a_clip)
    batches = [(N, 32768, 6) for N in (16, 64, 128, 256, 512, 1024, 4096) if largest >= N]
    return batches + [(128, K, 6) for K in (4096, 131072)] + [(128, 32768, P) for P in (2, 3, 4)]


def sweep(run, steps=3):
    """This package's step of phase 2 over batch, bank and number of modalities."""
    way = "this package, bfloat16"
    (known,) = show.pick(run.rows, phase="exchange", way=way)
    memory = torch.cuda.mem_get_info()[0] / 1e9 if run.device == "cuda" else float("inf")
    for N, K, P in points(run.device, 0.9 * memory, known["peak_gb"] / known["N"]):
        options = {"modalities": MODALITIES[:P]}
        taken = apart(run.device, sample, "exchange", way, N, K, run.device, steps, **options)
        run.record(sweep=True, N=N, K=K, P=P, **runner.summary(taken["seconds"]))


def measure(run):
    if run.settings.tiny:
        measure_in_order(run, 2, 16, 1, hidden_channels=4, hidden_dim=16)
        return
    if run.device == "cuda":
        measure_in_order(run, 128, 32768, steps=5)
    else:
        for phase in PHASES:
            check_agreement(phase)
        for phase in PHASES:
            measure_on_cpu(run, phase, 128, 32768, rounds=2)
    if not run.settings.quick:
        sweep(run)


def compared(results):
    return [row for row in results.rows if not row.get("sweep")]


def clips_per_second(row):
    return row["N"] / show.median(row)


def table(results):
    rows = compared(results)
    published = {row["phase"]: row for row in show.pick(rows, way=PUBLISHED)}
    lines = show.table(
        ("phase", "step", "time, s (p10–p90)|", "clips/s|", "TFLOP/s|", "against published|", "peak, GB|"),
        [
            (
                row["phase"],
                row["way"],
                show.spread(row, 1),
                f"{clips_per_second(row):.3g}",
                f"{clips_per_second(row) * FLOP_PER_CLIP * FORWARD_PASSES[row['phase']] / 1e12:.2f}",
                show.ratio(row, published[row["phase"]]),
                f"{row['peak_gb']:.2f}",
            )
            for row in rows
        ],
    )
    if any("parts" in row for row in rows):
        lines += ["", "Where the time goes, seconds:", ""]
        cells = [
            (row["phase"], row["way"], *(f"{row['parts'].get(part, 0):.2f}" for part in PARTS))
            for row in rows
        ]
        lines += show.table(("phase", "step", *(f"{part}|" for part in PARTS)), cells)
    return lines


def plots(results):
    from matplotlib.figure import Figure

    rows = show.pick(results.rows, sweep=True)
    if not rows:
        return {}
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    usual = {"N": 128, "K": 32768, "P": 6}
    labels = {"N": "clips in a batch", "K": "keys in a bank", "P": "modalities"}
    for axis, (name, label) in zip(axes, labels.items(), strict=True):
        fixed = {other: value for other, value in usual.items() if other != name}
        points = sorted((row[name], show.median(row)) for row in show.pick(rows, **fixed))
        axis.plot(*zip(*points, strict=True), marker="o")
        axis.set(xlabel=label, yscale="log", xscale="linear" if name == "P" else "log")
        axis.set_xticks([x for x, _ in points], labels=[str(x) for x, _ in points])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("a step of phase 2, s")
    axes[0].set_title(f"{results.about['gpu'] or results.about['cpu']}, bfloat16")
    return {"step": figure}


def headline(results):
    rows = {(row["phase"], row["way"]): row for row in compared(results)}
    theirs, ours = (rows["exchange", way] for way in (PUBLISHED, "this package, bfloat16"))
    replayed = rows.get(("exchange", "this package, bfloat16, CUDA graph"))
    graph = f" ({show.median(replayed):.2g} s from a CUDA graph)" if replayed else ""
    return (
        f"A step of phase 2, 128 clips: {show.median(ours):.2g} s in bfloat16{graph} and "
        f"{ours['peak_gb']:.1f} GB, the published formulation takes {show.median(theirs):.2g} s and "
        f"{theirs['peak_gb']:.0f} GB."
    )


def calls():
    def make(phase, way):
        check_agreement(phase)
        return functools.partial(make_step(way, phase, 16, 4096, "cpu"), *make_batch(16), phase)

    for phase in PHASES:
        for way in speeds("cpu"):
            yield f"{phase}, a step of 16 clips", way, functools.partial(make, phase, way)


SUBJECT = Subject(
    about="""A step is two views of a batch, six query and six key encoders, the losses, and their way back:
128 clips, banks of 32,768, full width. The encoders are nearly all of it: 1.2 GFLOP a clip and encoder
forward, so 29 GFLOP a clip for a step (forward and backward of the queries, forward of the keys), 3.7 TFLOP
at 128 clips. Losses are first checked to agree with the published formulation's over two steps. That
formulation is ours in words only (`benchmarks/published/step.py`): views clip by clip, encoders in the
published order of operations, every logit and mask in memory. It has the same weights, and dropout in all.

On a GPU the floor from operations is 27,000 clips/s (790 TFLOP/s), from bytes 24,000 (about 180 MB of
activations a clip at 4.3 TB/s), from both one after the other 12,700.""",
    measure=measure,
    show=table,
    headline=headline,
    plots=plots,
    calls=calls,
)
