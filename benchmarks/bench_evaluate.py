"""Evaluation on cached features: 100 epochs of linear classifiers for all sets, and nearest neighbours.

usage: python -m benchmarks.bench_evaluate [--clips 10000] [--threads 2] [--device cpu]

Features are random: the time does not depend on what they are. Prints one JSON line.
"""

import argparse
import json
import time
from types import SimpleNamespace

import torch
import torch.nn.functional as F

from benchmarks.harness import machine
from ikem_fast.evaluate.features import FrozenFeatures, parse_sets
from ikem_fast.evaluate.probes.knn import vote
from ikem_fast.evaluate.probes.linear import train_classifiers
from ikem_fast.skeleton import MODALITIES

CLASSES, WIDTH = 60, 256


def features(clips, dtype, device):
    x = torch.randn(clips, len(MODALITIES), WIDTH, device=device).to(dtype)
    y = torch.randint(CLASSES, (clips,), device=device)
    dataset = SimpleNamespace(classes=list(map(str, range(CLASSES))))
    return FrozenFeatures(dataset, parse_sets(None, MODALITIES), x, y, x[: clips // 2], y[: clips // 2])


def seconds(work):
    """On the clock, and of the processor: the second holds on a busy machine too."""
    clocks = (time.perf_counter, time.process_time)
    start = [clock() for clock in clocks]
    work()
    return [round(clock() - began, 2) for clock, began in zip(clocks, start, strict=True)]


def measure(clips, epochs, device):
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        cached = features(clips, dtype, device)
        options = {"epochs": epochs, "batch_size": 128, "lr": 3.0, "lr_milestones": (80,), "seed": 0}
        targets = F.one_hot(cached.y_train, CLASSES).float()
        name = str(dtype).removeprefix("torch.")
        found[f"linear, {name}, s"] = seconds(lambda: train_classifiers(cached, **options))  # noqa: B023
        found[f"knn of all, {name}, s"] = seconds(
            lambda: vote(cached.x_test, cached.x_train, targets, 20, 0.07)  # noqa: B023
        )
    return found


def test_evaluation_on_cached_features(benchmark):
    benchmark.pedantic(measure, (1000, 1, "cpu"), rounds=3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    figures = measure(arguments.clips, arguments.epochs, arguments.device)
    print(json.dumps({**vars(arguments), **figures, "machine": machine(arguments.device)}))
