"""Two augmented views of a batch and their six modalities: kernel, reference and the published way."""

import functools

import numpy as np
import torch

from benchmarks import show
from benchmarks.published import inputs
from benchmarks.subject import Subject
from ikem_fast import augment
from ikem_fast.ops import derive_modalities

CLIP = (3, 50, 25, 2)
WAYS = {
    "published": "published (NumPy augmentation a clip at a time, loops over joints), in our words",
    "reference": '`impl="reference"`',
    "fused": '`impl="fused"`',
}
BATCHES = (1, 4, 16, 64, 128, 256, 512, 1024, 2048)


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
        "published": lambda: inputs.two_views(*arrays),
        "reference": lambda: derive("reference"),
        "fused": lambda: derive("fused"),
    }


def check_agreement():
    views = {name: torch.stack(way()) for name, way in ways(16).items()}
    scale = views["published"].abs().amax((0, 2, 3, 4, 5, 6))
    for name, view in views.items():
        worst = ((view - views["published"]).abs().amax((0, 2, 3, 4, 5, 6)) / scale).max().item()
        assert worst < 2e-5, f"{name} is {worst:.1e} away from the published formulation"


def on_gpu(N, dtype):
    """Calls that make one view of this dtype, and that copy as many bytes; the runner flushes the cache
    between them.
    """
    x, frames, matrices, starts = batch(N, "cuda")
    moved = N * int(np.prod(CLIP)) * (4 + 6 * dtype.itemsize)
    source, target = (torch.empty(moved // 8, device="cuda") for _ in range(2))
    options = {"shear": matrices[0], "crop_start": starts[0], "out_dtype": dtype, "impl": "fused"}
    return {
        "fused": lambda: derive_modalities(x, frames, **options),
        "a copy of as many bytes": lambda: target.copy_(source),
    }


def measure(run):
    if run.device == "cuda":
        for N in (128, 4096):
            for dtype in (torch.float32, torch.bfloat16):
                labels = {"clips": N, "dtype": str(dtype).removeprefix("torch.")}
                run.compare(on_gpu(N, dtype), rounds=50, views=1, threads=run.settings.threads, **labels)
        return
    check_agreement()
    most, clips = run.settings.threads, 2 if run.settings.tiny else 128
    run.compare(ways(clips), rounds=9, views=2, clips=clips, threads=most)
    if run.settings.tiny:
        return
    for threads in [2**k for k in range(10) if 2**k < most] + [most]:
        torch.set_num_threads(threads)
        for N in () if run.settings.quick else BATCHES:
            fused = {"fused": ways(N)["fused"]}
            run.compare(fused, rounds=9, views=2, clips=N, threads=threads, scaling=True)


def compared(results):
    return {row["way"]: row for row in results.rows if not row.get("scaling")}


def microseconds(row):
    """Of a view of a clip."""
    return show.median(row, 1e6) / (row["views"] * row["clips"])


def table(results):
    if results.about["gpu"]:
        return show.table(
            ("clips|", "modalities in", "way", "a view, µs|"),
            [
                (row["clips"], row["dtype"], row["way"], f"{show.median(row, 1e6):.3g}")
                for row in results.rows
            ],
        )
    found = compared(results)
    rows = [(WAYS[w], show.spread(row), show.ratio(row, found["published"])) for w, row in found.items()]
    title = f"two views of {found['fused']['clips']} clips, ms (p10–p90)|"
    lines = show.table(("way", title, "ratio|"), rows)
    scaling = show.pick(results.rows, scaling=True)
    if scaling:
        lines += ["", "Time a view of a clip, µs, by threads and clips in a batch:", ""]
        rows = [
            (threads, *(f"{microseconds(row):.1f}" for row in show.pick(scaling, threads=threads)))
            for threads in sorted({row["threads"] for row in scaling})
        ]
        lines += show.table(("threads|", *(f"{N}|" for N in BATCHES)), rows)
    return lines


def plots(results):
    """Time a view of a clip against the batch, a line for each number of threads."""
    from matplotlib.figure import Figure

    scaling = show.pick(results.rows, scaling=True)
    if not scaling:
        return {}
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for threads in sorted({row["threads"] for row in scaling}):
        points = [(row["clips"], microseconds(row)) for row in show.pick(scaling, threads=threads)]
        axes.plot(*zip(*points, strict=True), marker="o", label=f"{threads} thread{'s'[: threads > 1]}")
    axes.set(xscale="log", xlabel="clips in a batch", ylabel="time a view of a clip, µs")
    axes.set_ylim(bottom=0)
    axes.set_xticks(BATCHES, map(str, BATCHES))
    axes.minorticks_off()
    axes.set_title("Augmenting and deriving six modalities on the CPU")
    axes.grid(True, alpha=0.3)
    axes.legend()
    return {"derivation": figure}


def headline(results):
    if results.about["gpu"]:
        row = results.rows[0]
        return f"A view of {row['clips']} clips with its six modalities takes {show.median(row, 1e6):.3g} µs."
    found = compared(results)
    ours, theirs = (f"{show.median(found[way], 1e3):.3g}" for way in ("fused", "published"))
    clips = found["fused"]["clips"]
    return f"Two views of {clips} clips with their six modalities take {ours} ms, the published way {theirs}."


def calls():
    for way in WAYS:
        yield "two views of 128 clips", way, functools.partial(lambda way: ways(128)[way], way)
    for N in (1, 16, 1024):
        yield "two views, fused", f"{N} clips", functools.partial(lambda N: ways(N)["fused"], N)


SUBJECT = Subject(
    about="""Clips are (3,50,25,2), two augmented views of six modalities each, in float32. Each round runs
every way once, in turn, after a check that all agree; then the kernel alone over batches and threads.""",
    measure=measure,
    show=table,
    headline=headline,
    plots=plots,
    calls=calls,
)
