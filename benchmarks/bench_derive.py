"""Two augmented views of a batch and their six modalities: the kernel, the reference and the published way.

`python -m pytest --benchmark benchmarks/bench_derive.py` times each by itself.

usage: python -m benchmarks.bench_derive [--threads N] [--out benchmarks/results]

checks that all agree and times them in turn, so that a busy machine slows all alike; then the kernel alone
over batch sizes and 1 … N threads (all cores where left out) and, where there is a GPU, against a copy of
memory. Writes derive.json and derive.png.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

from benchmarks import published_input
from ikem_fast import augment
from ikem_fast.ops import derive_modalities

CLIP = (3, 50, 25, 2)
BYTES = 4 * 7 * int(np.prod(CLIP))  # of a clip in float32: one read, six writes


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


def in_turn(calls, rounds):
    """Median seconds of each call, one of each a round."""
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(taken) for name, taken in seconds.items()}


def scaling(most, rounds=15):
    """[(threads, batch, views a second)] of the kernel on the CPU, for 1, 2, 4, … and `most` threads."""
    rows = []
    for threads in [2**k for k in range(10) if 2**k < most] + [most]:
        torch.set_num_threads(threads)
        for N in (1, 4, 16, 64, 128, 512):
            seconds = in_turn({"fused": ways(N)["fused"]}, rounds)["fused"]
            rows.append((threads, N, round(2 * N / seconds)))
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for threads in sorted({row[0] for row in rows}):
        points = [(N, rate) for t, N, rate in rows if t == threads]
        axes.plot(*zip(*points, strict=True), marker="o", label=f"{threads} thread{'s'[: threads > 1]}")
    axes.set(xscale="log", yscale="log", xlabel="clips in a batch", ylabel="views a second")
    axes.set_title("Augmenting and deriving six modalities on the CPU")
    axes.legend()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    check_agreement()
    seconds = in_turn(ways(128), rounds=9)
    result = {
        "machine": platform.processor() or platform.machine(),
        "threads": args.threads,
        "torch": torch.__version__,
        "two views of 128 clips, ms": {name: round(1e3 * s, 2) for name, s in seconds.items()},
        "faster than published": round(seconds["published"] / seconds["fused"], 1),
        "views a second, by threads and batch": scaling(args.threads),
    }
    if torch.cuda.is_available():
        result["gpu"] = torch.cuda.get_device_name()
        for N in (128, 4096):
            view, share = on_gpu(N)
            result[f"gpu, batch {N}"] = {"us a view": round(view, 1), "share of copy": round(share, 2)}
    print(json.dumps(result, indent=2))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "derive.json").write_text(json.dumps(result, indent=2) + "\n")
    plot(result["views a second, by threads and batch"], args.out / "derive.png")


if __name__ == "__main__":
    main()
