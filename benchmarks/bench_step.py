"""A whole training step of each phase, against the published formulation of the same step.

`python -m pytest --benchmark benchmarks/bench_step.py` times each by itself, on small batches.

usage: python -m benchmarks.bench_step [--device cpu|cuda] [--rounds N] [--quick] [--publish]
                                       [--out benchmarks/results]

checks that losses and updated weights agree, times the steps at the method's size (128 clips, bank of 32768,
full width), with peak memory and the share of each part; then, unless --quick, this package's step over
batch, bank and modalities. On a CPU every way takes its turn in a new process each round: how a process came
by its memory is up to half of what a large step costs. Writes step-DEVICE.json and step-DEVICE.png; --publish
puts table and plot into docs/performance.md.
"""

import argparse
import functools
import multiprocessing
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import pytest
import torch

from benchmarks import harness
from benchmarks.publish import publish, where
from benchmarks.published_step import PublishedStep
from ikem_fast import MODALITIES, augment
from ikem_fast.nn import IKEM, RelationalDistiller
from ikem_fast.runtime.device import choose_device
from ikem_fast.runtime.processes import Processes
from ikem_fast.train.config import PretrainConfig
from ikem_fast.train.step import Step

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

    def forward(clips, frames, first, second, phase, gather=None):
        if phase == "distillation":
            return model(clips, clips, frames, augment_teacher=first, augment_student=second)
        return model(clips, clips, frames, exchange=phase == "exchange", augment_q=first, augment_k=second)

    step = Step(model, forward, config, alone)
    return lambda clips, frames, views, phase: step(clips, frames, views, len(clips), phase)


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


def make_step(way, phase, N, K, device, modalities=MODALITIES):
    """call(clips, frames, views, phase) → losses, on a model of its own; all ways' have the same weights."""
    if way == PUBLISHED:
        return PublishedStep(make_model(phase, K, modalities, impl="reference", device=device))
    return ours(make_model(phase, K, modalities, device=device), N, device, **speeds(device)[way])


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


def sample(phase, way, N, K, device, steps, modalities=MODALITIES, parts=False):
    """{"seconds": of each of `steps` steps, "peak_bytes", "parts_s"} of a step that starts from nothing."""
    batch = make_batch(N, device)
    call = functools.partial(make_step(way, phase, N, K, device, modalities), *batch, phase)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP[device]):
        call()
    seconds = [timed(call, device) for _ in range(steps)]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else harness.resident("VmHWM")
    return {"seconds": seconds, "peak_bytes": peak} | ({"parts_s": parts_of(call)} if parts else {})


def apart(device, function, *arguments, **options):
    """The call in a process of its own on a CPU, where none gives back all that it took."""
    if device == "cuda":
        return function(*arguments, **options)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments, options)


def measure(phase, N, K, device, rounds):
    """Rows of results. A GPU's steps follow each other; a CPU's ways take turns."""
    turns, steps = (1, rounds) if device == "cuda" else (rounds, 1)
    taken = {way: [] for way in speeds(device)}
    for turn in range(turns):
        for way, samples in taken.items():
            parts = device == "cpu" and turn == 0
            samples.append(apart(device, sample, phase, way, N, K, device, steps, parts=parts))
    rows = []
    for way, samples in taken.items():
        seconds = [s for one in samples for s in one["seconds"]]
        row = {"phase": phase, "way": way, "N": N, "K": K, **harness.summary(seconds)}
        row |= {"clips_per_s": N / row["median_s"], "peak_bytes": max(one["peak_bytes"] for one in samples)}
        row["operations_per_s"] = row["clips_per_s"] * FLOP_PER_CLIP * FORWARD_PASSES[phase]
        if device == "cpu":
            row["parts_s"] = samples[0]["parts_s"]
        rows.append(row)
    return rows


def sweep(device, steps=3):
    """This package's step of phase 2 over batch, bank and number of modalities."""
    largest = 4096 if device == "cuda" else 256
    points = [(N, 32768, 6) for N in (16, 64, 128, 256, 512, 4096) if largest >= N]
    points += [(128, K, 6) for K in (4096, 131072)] + [(128, 32768, P) for P in (2, 3, 4)]
    rows = []
    for N, K, P in points:
        way = "this package, bfloat16"
        taken = apart(device, sample, "exchange", way, N, K, device, steps, modalities=MODALITIES[:P])
        time_taken = median(taken["seconds"])
        rows.append({"N": N, "K": K, "P": P, "median_s": time_taken, "clips_per_s": N / time_taken})
        print(rows[-1], flush=True)
    return rows


def table(results):
    lines = [
        where(results["machine"]),
        "",
        "| phase | step | time, s (p10–p90) | clips/s | TFLOP/s | against published | peak, GB |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    published = {r["phase"]: r["median_s"] for r in results["rows"] if r["way"] == PUBLISHED}
    for row in results["rows"]:
        spread = f"{row['median_s']:.3g} ({row['p10_s']:.3g}–{row['p90_s']:.3g})"
        ratio = published[row["phase"]] / row["median_s"]
        lines.append(
            f"| {row['phase']} | {row['way']} | {spread} | {row['clips_per_s']:.3g} | "
            f"{row['operations_per_s'] / 1e12:.2f} | {ratio:.1f}× | {row['peak_bytes'] / 1e9:.2f} |"
        )
    if any("parts_s" in row for row in results["rows"]):
        lines += ["", "Where the time goes, seconds:", "", "| phase | step | " + " | ".join(PARTS) + " |"]
        lines.append("| --- | --- |" + " --: |" * len(PARTS))
        for row in results["rows"]:
            cells = (f"{row['parts_s'].get(part, 0):.2f}" for part in PARTS)
            lines.append(f"| {row['phase']} | {row['way']} | " + " | ".join(cells) + " |")
    return lines


def plot(results, path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6), layout="constrained")
    axes = figure.subplots(1, 3, sharey=True)
    rows = results["sweep"]
    for axis, (name, label) in zip(
        axes, {"N": "clips in a batch", "K": "keys in a bank", "P": "modalities"}.items(), strict=True
    ):
        usual = {"N": 128, "K": 32768, "P": 6}
        points = sorted(
            (row[name], row["median_s"])
            for row in rows
            if all(row[other] == usual[other] for other in usual if other != name)
        )
        axis.plot(*zip(*points, strict=True), marker="o")
        axis.set(xlabel=label, yscale="log", xscale="linear" if name == "P" else "log")
        axis.set_xticks([x for x, _ in points], labels=[str(x) for x, _ in points])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("a step of phase 2, s")
    axes[0].set_title(f"{results['machine']['gpu'] or results['machine']['cpu']}, bfloat16")
    figure.savefig(path, dpi=120)


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("way", [PUBLISHED, "this package, float32", "this package, bfloat16"])
def test_step_of_16_clips(benchmark, phase, way):
    check_agreement(phase)
    batch, step = make_batch(16), make_step(way, phase, 16, 4096, "cpu")
    benchmark.group = f"{phase}, a step of 16 clips"
    benchmark.pedantic(step, args=(*batch, phase), rounds=3, warmup_rounds=1)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="the method's size alone")
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument("--out", type=Path, default=harness.ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    device = arguments.device

    for phase in PHASES:
        check_agreement(phase, device)
    results = {"machine": harness.machine(device), "rows": [], "sweep": []}
    size = (128, 32768, device)
    for phase in PHASES:
        results["rows"] += measure(phase, *size, arguments.rounds)
        harness.write_json(arguments.out / f"step-{device}.json", results)
        print("\n".join(table(results)), flush=True)
    if not arguments.quick:
        results["sweep"] = sweep(device)
        harness.write_json(arguments.out / f"step-{device}.json", results)
        plot(results, arguments.out / f"step-{device}.png")
    if arguments.publish:
        publish("step", table(results), sorted(arguments.out.glob(f"step-{device}.png")))


if __name__ == "__main__":
    main()
