"""Every augmentation over a batch, against the NumPy way: clip by clip, as a loader's worker does."""

import functools

import numpy as np
import torch

from benchmarks import show
from benchmarks.published.augmentation import PER_CLIP
from benchmarks.subject import Subject
from ikem_fast import augment

N, CLIP = 128, (3, 50, 25, 2)
WAYS = ("clip by clip", "batched")


def ways(name):
    """Name → a call that augments 128 clips, with parameters that it draws."""
    x, generator, rng = torch.randn(N, *CLIP), torch.Generator().manual_seed(0), np.random.default_rng(0)
    return {
        "clip by clip": lambda: torch.stack([
            torch.from_numpy(PER_CLIP[name](clip, rng).astype(np.float32)) for clip in x.numpy()
        ]),
        "batched": lambda: getattr(augment, f"random_{name}")(x, generator),
    }  # fmt: skip


def measure(run):
    for name in PER_CLIP:
        run.compare(ways(name), rounds=9, augmentation=name, clips=N)


def pairs(results):
    """(NumPy's row, ours) of each augmentation."""
    names = dict.fromkeys(row["augmentation"] for row in results.rows)
    return [
        [show.pick(results.rows, augmentation=name, way=way)[0] for way in WAYS] for name in names
    ]  # fmt: skip


def table(results):
    columns = (f"{N} clips, drawing included", "NumPy clip by clip, ms|", "batched, ms (p10–p90)|", "ratio|")
    rows = [
        (
            theirs["augmentation"].replace("_", " "),
            f"{show.median(theirs, 1e3):.3g}",
            show.spread(ours),
            show.ratio(ours, theirs),
        )
        for theirs, ours in pairs(results)
    ]
    return show.table(columns, rows)


def headline(results):
    ratios = sorted(show.median(theirs) / show.median(ours) for theirs, ours in pairs(results))
    return f"Batched augmentations take between {1 / ratios[-1]:.0%} and {1 / ratios[0]:.0%} of NumPy's time."


def calls():
    for name in PER_CLIP:
        for way in WAYS:
            yield name, way, functools.partial(lambda name, way: ways(name)[way], name, way)


SUBJECT = Subject(
    devices=("cpu",),
    about="""Shear, rotation, scaling and flips of axes are a matrix for each clip, and a temporal crop a
start: inside the derivation they cost nothing extra. Here each is timed by itself, batched torch on the
clips' device against NumPy a clip at a time, as published loaders do it.""",
    measure=measure,
    show=table,
    headline=headline,
    calls=calls,
)
