"""Batches out of a dataset that is larger than memory: clips a second, and how far memory grows.

The dataset is a file of holes: it takes no disk, reads as zeros, and is never wholly in memory. So the speed
is that of the loader and the system's cache; a disk adds its own time.
"""

import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import run as runner
from benchmarks import show
from benchmarks.subject import Subject
from ikem_fast.data import dataset as dataset_module
from ikem_fast.data import open_dataset
from ikem_fast.data.loader import BatchLoader


def hollow_dataset(folder, clips):
    """A prepared dataset of `clips` zero clips; the frame count of clip i is i + 1."""
    folder.mkdir(parents=True)
    layout = {"layout": "ntu-rgb+d", "frames": 50, "bodies": 2}
    parts = {
        "clips": (np.float32, (3, 50, 25, 2)), "frames": (np.int32, ()),
        "labels": (np.int64, ()), "names": ("U1", ()),
    }  # fmt: skip
    for name, (dtype, row) in parts.items():
        path = folder / f"train_{name}.npy"
        array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(clips, *row))
        if name == "frames":
            array[:] = np.arange(1, clips + 1)
    description = {
        "format": dataset_module.FORMAT, "version": dataset_module.VERSION, "name": "hollow", **layout,
        "classes": ["none"], "splits": {"train": clips}, "prepared": {}, "skipped": [], "fingerprint": "",
    }  # fmt: skip
    (folder / dataset_module.DESCRIPTION).write_text(json.dumps(description))
    return open_dataset(folder)


def read(dataset, batches, batch_size, device="cpu"):
    """Read the first batches of an epoch: what was seen of each clip, seconds, and growth in bytes."""
    loader = BatchLoader(dataset["train"], batch_size, device)
    next(iter(loader.epoch(1)))  # starts threads, loads code
    runner.forget_peak()
    before = runner.resident("VmRSS")
    start = time.perf_counter()
    seen = [frames.cpu() for _, frames in itertools.islice(loader.epoch(1), batches)]
    seconds = time.perf_counter() - start
    return {
        "seen": torch.cat(seen),
        "seconds": seconds,
        "growth": runner.resident("VmHWM") - before,
        "batch": batch_size * dataset["train"].clips[0].nbytes,
    }


def measure(run, clips=1_000_000, batches=300, batch_size=128):
    with tempfile.TemporaryDirectory() as folder:
        dataset = hollow_dataset(Path(folder) / "data", clips)
        for _ in range(3):
            found = read(dataset, batches, batch_size, run.device)
            run.record(
                clips=clips, batches=batches, batch_size=batch_size, **runner.summary([found["seconds"]]),
                growth_mb=found["growth"] / 1e6,
            )  # fmt: skip


def clips_per_second(row):
    return row["batches"] * row["batch_size"] / show.median(row)


def table(results):
    rows = [
        (row["clips"], row["batches"], f"{clips_per_second(row):.0f}", f"{row['growth_mb']:.0f}")
        for row in results.rows
    ]
    return show.table(
        ("clips in the file|", "batches of 128|", "clips/s|", "growth of peak memory, MB|"), rows
    )


def headline(results):
    row = max(results.rows, key=clips_per_second)
    return (
        f"Random batches out of {row['clips']} clips: {clips_per_second(row):.0f} clips/s, "
        f"{row['growth_mb']:.0f} MB of memory."
    )


SUBJECT = Subject(
    about="""The dataset is a file of holes with a million clips (30 GB that take no disk), so the speed is
that of the loader and the system's cache. A disk adds its own time: 30 kB a clip. The first 300 batches are
read three times.""",
    measure=measure,
    show=table,
    headline=headline,
)
