"""Batches out of a dataset that is larger than memory: clips a second, and how far memory grows.

usage: python -m benchmarks.bench_loader [--clips 1000000] [--batches 300] [--batch-size 128] [--device cpu]

The dataset is a file of holes: it takes no disk, reads as zeros, and is never wholly in memory. So the speed
is that of the loader and the system's cache; a disk adds its own time. Prints one JSON line.
"""

import argparse
import itertools
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import machine, resident
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


def measure(dataset, batches, batch_size, device="cpu"):
    """Read the first batches of an epoch: what was seen of each clip, speed, and growth in bytes."""
    loader = BatchLoader(dataset["train"], batch_size, device)
    next(iter(loader.epoch(1)))  # starts threads, loads code
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest point so far
    before = resident("VmRSS")
    start = time.perf_counter()
    seen = [frames.cpu() for _, frames in itertools.islice(loader.epoch(1), batches)]
    seconds = time.perf_counter() - start
    return {
        "seen": torch.cat(seen),
        "clips_per_s": round(batches * batch_size / seconds),
        "growth": resident("VmHWM") - before,
        "batch": batch_size * dataset["train"].clips[0].nbytes,
    }


def test_batches_of_a_hollow_dataset(benchmark, tmp_path):
    dataset = hollow_dataset(tmp_path / "data", 100_000)
    found = benchmark.pedantic(measure, (dataset, 50, 128), rounds=3)
    benchmark.extra_info["clips_per_s"] = found["clips_per_s"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        dataset = hollow_dataset(Path(folder) / "data", arguments.clips)
        found = measure(dataset, arguments.batches, arguments.batch_size, arguments.device)
    found.pop("seen")
    print(json.dumps({**vars(arguments), **found, "machine": machine(arguments.device)}))
