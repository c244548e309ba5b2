"""Evaluation on cached features: linear classifiers for all sets side by side, and nearest neighbors.

Features are random: the time does not depend on what they are.
"""

import functools
import time

import torch
import torch.nn.functional as F

from benchmarks import show
from benchmarks.subject import Subject
from ikem_fast.evaluate.features import held_dtype, parse_sets
from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.knn import side_by_side, vote
from ikem_fast.evaluate.probes.sgd import fit_sgd
from ikem_fast.skeleton import MODALITIES

CLASSES, WIDTH = 60, 256
LINEAR, NEIGHBORS = "linear classifiers of all sets", "votes of 20 neighbors by all modalities"


def ways(clips, epochs, dtype, device="cpu"):
    """Name → a call that evaluates random features of `clips` training clips and half as many test clips."""
    x = torch.randn(clips, len(MODALITIES), WIDTH, device=device).to(dtype)
    y = torch.randint(CLASSES, (clips,), device=device)
    train, test = Examples(x, y, CLASSES), Examples(x[: clips // 2], y[: clips // 2], CLASSES)
    sets = parse_sets(None, MODALITIES)
    options = {"epochs": epochs, "batch_size": 128, "lr": 3.0, "lr_milestones": (80,), "seed": 0}
    targets = F.one_hot(y, CLASSES).float()
    return {
        LINEAR: lambda: fit_sgd(train, sets, watched=test, **options),
        NEIGHBORS: lambda: vote(side_by_side(test.x), side_by_side(x), targets, (20,), 0.07),
    }


def measure(run):
    clips, epochs = (60, 2) if run.settings.tiny else (10_000, 100)
    for dtype in dict.fromkeys(held_dtype(amp, torch.device(run.device)) for amp in (False, True)):
        labels = {"clips": clips, "epochs": epochs, "dtype": str(dtype).removeprefix("torch.")}
        run.compare(ways(clips, epochs, dtype, run.device), 1, clock=time.perf_counter, **labels)


def table(results):
    rows = []
    for row in results.rows:
        epochs = row["epochs"] if row["way"] == LINEAR else ""
        rows.append((row["way"], row["clips"], epochs, row["dtype"], show.spread(row, 1)))
    return show.table(("what", "training clips|", "epochs|", "features", "time, s|"), rows)


def headline(results):
    row = show.pick(results.rows, way=LINEAR)[0]
    what = f"{row['epochs']} epochs of {LINEAR} on the features of {row['clips']} clips"
    return f"{what} take {show.spread(row, 1)} s."


def calls():
    for way in (LINEAR, NEIGHBORS):
        make = functools.partial(lambda way: ways(1000, 1, torch.float32)[way], way)
        yield "evaluation on cached features", way, make


SUBJECT = Subject(
    about="""Six modalities of random features, 256 wide, 60 classes; half as many test clips as training
clips, scored every epoch. Features are extracted once, so this is all that an evaluation repeats.""",
    measure=measure,
    show=table,
    headline=headline,
    calls=calls,
)
