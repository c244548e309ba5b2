"""Two augmented views of a batch and their six modalities: the kernel, the reference and the published way.

`python -m pytest --benchmark benchmarks/bench_derive.py` times each by itself.

usage: python -m benchmarks.bench_derive [--threads N] [--publish] [--out benchmarks/results]

checks that all agree and times them in turn, so that a busy machine slows all alike; then the kernel alone
over batch sizes and 1 … N threads (all cores where left out) and, where there is a GPU, against a copy of
memory. Writes derive-cpu.json and derive-cpu.png, or derive-cuda.json.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import harness, published_input
from benchmarks.publish import publish, where
from ikem_fast import augment
from ikem_fast.ops import derive_modalities

CLIP = (3, 50, 25, 2)
BYTES = 4 * 7 * int(np.prod(CLIP))  # of a clip in float32: one read, six writes
WAYS = {
    "published": "published (NumPy augmentation a clip at a time, loops over joints), in our words",
    "reference": '`impl="reference"`',
    "fused": '`impl="fused"`',
}
BATCHES = (1, 4, 16, 64, 128, 256, 512, 1024, 2048)
NAME = "derivation"  # of the block in docs/performance.md


def batch(N, device="cpu"):
    """Clips, their frame counts, and the parameters of two views."""
    x = torch.randn(N, *CLIP, device=device)
    x[::2, ..., 1] = 0
    frames = torch.randint(20, 200, (N,), device=device)
    matrices = torch.stack([augment.draw_shear(N, device=device) for _ in range(2)])
    starts = torch.stack([augment.draw_crop_start(N, CLIP[1], device=device) for _ in range(2)])
    return x, frames, matrices, starts


def ways(N):
    """Name → a call that makes two views of a batch of N."""
    x, frames, matrices, starts = batch(N)

    def derive(impl):
        return [
            derive_modalities(x, frames, shear=m, crop_start=s, impl=impl)
            for m, s in zip(matrices, starts, strict=True)
        ]

    arrays = x.numpy(), frames, matrices.double().numpy(), starts.numpy()
    return {
        "published": lambda: published_input.two_views(*arrays),
        "reference": lambda: derive("reference"),
        "fused": lambda: derive("fused"),
    }


@pytest.mark.parametrize("way", ["published", "reference", "fused"])
def test_two_views_of_128_clips(benchmark, way):
    benchmark.group = "two views of 128 clips"
    benchmark.pedantic(ways(128)[way], rounds=10, warmup_rounds=2)


@pytest.mark.parametrize("N", [1, 16, 128, 1024])
def test_one_view(benchmark, N):
    benchmark.group = "one view, fused"
    x, frames, matrices, starts = batch(N)
    benchmark(derive_modalities, x, frames, shear=matrices[0], crop_start=starts[0], impl="fused")


def check_agreement():
    views = {name: torch.stack(way()) for name, way in ways(16).items()}
    scale = views["published"].abs().amax((0, 2, 3, 4, 5, 6))
    for name, view in views.items():
        worst = ((view - views["published"]).abs().amax((0, 2, 3, 4, 5, 6)) / scale).max().item()
        assert worst < 2e-5, f"{name} is {worst:.1e} away from the published formulation"


def scaling(most, rounds=9):
    """[{"threads", "clips", "median_s", …}]: two views by the kernel on the CPU, for 1, 2, 4, … threads."""
    rows = []
    for threads in [2**k for k in range(10) if 2**k < most] + [most]:
        torch.set_num_threads(threads)
        for N in BATCHES:
            seconds = harness.in_turn({"fused": ways(N)["fused"]}, rounds)["fused"]
            rows.append({"threads": threads, "clips": N, **harness.summary(seconds)})
    return rows


def on_gpu(N, rounds=50):
    """(microseconds a view, share of a copy's bandwidth); inputs rotate through more than the L2 cache."""
    inputs = [batch(N, "cuda") for _ in range(max(2, 200_000_000 // (N * BYTES) + 1))]
    copies = [torch.empty(N * BYTES // 8, device="cuda") for _ in range(4)]

    def microseconds(call, count):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        for i in range(count):
            call(i)
        start.record()
        for i in range(rounds):
            call(i % count)
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / rounds * 1e3

    def derive(i):
        x, frames, matrices, starts = inputs[i]
        return derive_modalities(x, frames, shear=matrices[0], crop_start=starts[0], impl="fused")

    view = microseconds(derive, len(inputs))
    copy = microseconds(lambda i: copies[i].copy_(copies[i - 1]), len(copies))
    return view, copy / view


def plot(rows, path):
    """Time a view of a clip against the batch, a line for each number of threads."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for threads in sorted({row["threads"] for row in rows}):
        points = [(row["clips"], view_microseconds(row)) for row in rows if row["threads"] == threads]
        axes.plot(*zip(*points, strict=True), marker="o", label=f"{threads} thread{'s'[: threads > 1]}")
    axes.set(xscale="log", xlabel="clips in a batch", ylabel="time a view of a clip, µs")
    axes.set_ylim(bottom=0)
    axes.set_xticks(BATCHES, map(str, BATCHES))
    axes.minorticks_off()
    axes.set_title("Augmenting and deriving six modalities on the CPU")
    axes.grid(True, alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)


def view_microseconds(row):
    return row["median_s"] / (2 * row["clips"]) * 1e6


def table(result):
    """The figures as lines of Markdown: the ways compared, then the kernel over threads and batches."""
    published = result["ways"]["published"]["median_s"]
    lines = [
        where(result["machine"]),
        "",
        "| way | two views of 128 clips, median, ms (p10–p90) | ratio |",
        "| --- | ---: | ---: |",
    ]
    for name, label in WAYS.items():
        row = result["ways"][name]
        low, middle, high = (f"{row[key] * 1e3:.3g}" for key in ("p10_s", "median_s", "p90_s"))
        ratio = published / row["median_s"]
        lines.append(f"| {label} | {middle} ({low}–{high}) | {f'{ratio:.1f}×' if ratio != 1 else 1} |")
    rows = result["scaling"]
    lines += ["", "Time a view of a clip, µs, by threads and clips in a batch:", ""]
    lines += ["| threads | " + " | ".join(map(str, BATCHES)) + " |", "| ---: |" + " ---: |" * len(BATCHES)]
    for threads in sorted({row["threads"] for row in rows}):
        cells = [f"{view_microseconds(row):.1f}" for row in rows if row["threads"] == threads]
        lines.append(f"| {threads} | " + " | ".join(cells) + " |")
    return lines


def measure_cpu(threads, out):
    """Compare the ways, scale the kernel; write derive-cpu.json and derive-cpu.png; return the figures."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    check_agreement()
    machine = harness.machine("cpu")
    seconds = harness.in_turn(ways(128), rounds=9)
    result = {
        "machine": machine,
        "ways": {name: harness.summary(taken) for name, taken in seconds.items()},
        "scaling": scaling(threads),
    }
    harness.write_json(out / "derive-cpu.json", result)
    plot(result["scaling"], out / "derive-cpu.png")
    return result


def measure_gpu(out):
    result = {"machine": harness.machine("cuda")}
    for N in (128, 4096):
        view, share = on_gpu(N)
        result[f"batch {N}"] = {"us a view": round(view, 1), "share of copy": round(share, 2)}
    harness.write_json(out / "derive-cuda.json", result)
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/performance.md")
    args = parser.parse_args()
    result = measure_cpu(args.threads, args.out)
    print("\n".join(table(result)))
    if args.publish:
        publish(NAME, table(result), [args.out / "derive-cpu.png"])
    if torch.cuda.is_available():
        print(json.dumps(measure_gpu(args.out), indent=2))


if __name__ == "__main__":
    main()
