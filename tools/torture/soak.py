"""A long run in one process: steps with evaluation, checkpoints and logging, and `prepare` and `predict`.

    python -m tools.torture.soak [--steps N] [--cycles N] [--picture FILE]

Memory, open files, threads and the time of a step are written down all along; growth from the work's second
fifth to its last is what is lost. `--picture` draws them.
"""

import argparse
import contextlib
import gc
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ikem_fast.cli import main as command
from ikem_fast.data import DatasetWriter
from ikem_fast.evaluate import KnnConfig, LinearConfig, evaluate_knn, evaluate_linear
from ikem_fast.train import pretrain
from tests.faults.runs import SMALL, settings

STEPS, CYCLES = 50_000, 200
STAGES = 10  # trainings that the steps are divided into, with an evaluation behind each
EVERY = 1.0  # seconds between two looks
ALLOWED = {  # growth, as a share
    "memory (MB)": 0.05, "open files": 0.0, "threads": 0.0, "step (ms)": 0.25, "cycle (ms)": 0.25
}  # fmt: skip
Seen = tuple[list[float], list[float]]  # shares of the work, and a figure at each


class Watch:
    """Looks at this process while `share` of the work is done, which whoever works sets."""

    def __init__(self) -> None:
        self.share = 0.0
        self.rows: list[dict[str, float]] = []

    def look(self) -> None:
        """Write down what this process holds now."""
        memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.rows.append(
            {
                "share": self.share,
                "memory (MB)": memory / 1e6,
                "open files": len(os.listdir("/proc/self/fd")),
                "threads": len(os.listdir("/proc/self/task")),
            }
        )

    @contextlib.contextmanager
    def each_second(self) -> Iterator[None]:
        """Look each second while the block runs."""
        over = threading.Event()

        def run():
            while not over.wait(EVERY):
                self.look()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def dataset(folder: Path, clips: int = 256) -> Path:
    """Prepare clips of noise: enough that an epoch is no matter of a moment."""
    draw = np.random.default_rng(0)
    names = [f"{number:04d}" for number in range(clips + 32)]
    with DatasetWriter(
        folder, name="noise", layout="sbu", classes=["a", "b"], num_frames=4, num_bodies=1, prepared={},
        sources=names, name_length=4,
    ) as writer:  # fmt: skip
        for number, name in enumerate(names):
            clip = draw.normal(size=(3, 4, 15, 1)).astype(np.float32)
            writer.add("train" if number < clips else "test", clip, 4, number % 2, name)
        writer.finish()
    return folder


def train(folder: Path, steps: int, watch: Watch) -> list[float]:
    """Train so many steps in stages, each gone on with and evaluated; returns a step's milliseconds in each.

    They are of computing, with a share of the evaluation: what else the machine does is no growth.
    """
    config = settings(folder / "run", data=dataset(folder / "data"), resume="auto", checkpoint_steps=500,
                      model=replace(SMALL, modalities=("joint",)))  # fmt: skip
    took = []
    for stage in range(1, STAGES + 1):
        watch.share, began = (stage - 0.5) / STAGES, time.process_time()
        with watch.each_second():
            pretrain(replace(config, max_steps=steps * stage // STAGES))
        common = {"data": config.data, "checkpoint": config.out, "device": "cpu", "baselines": False}
        evaluate_knn(KnnConfig(out=folder / "knn", **common))
        evaluate_linear(LinearConfig(out=folder / "linear", **common))
        took.append(1000 * (time.process_time() - began) / (steps / STAGES))
    records = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    require(records[-1]["step"] == steps, f"step {steps}, found {records[-1]['step']}")
    ends = [0, *(record["step"] for record in records)]
    require(ends == sorted(set(ends)), "a step twice in metrics.jsonl")
    return took


def cycle(folder: Path, number: int) -> None:
    """Prepare a few clips anew and have the last evaluation's classifier answer for them."""
    out = folder / f"cycle{number}"
    clips = np.random.default_rng(number).normal(size=(3, 4, 15, 3)).astype(np.float32)
    source = out.with_suffix(".npz")
    np.savez(source, x=clips.reshape(12, 15, 3), len=[4] * 3, y=[0, 1, 0])
    layout = ["--layout", "sbu"]
    prepare = ["prepare", "npz", "--source", source, *layout, "--test", "ratio=0.4", "--out", out]
    predict = ["predict", source, "--model", folder / "linear", *layout]
    with contextlib.redirect_stdout(io.StringIO()):
        for words in (prepare, predict):
            require(command(["-q", *map(str, words)]) == 0, f"status 0 of {words[0]}")


def require(truth, expected):
    if not truth:
        raise AssertionError(f"expected {expected}")


def growth(shares: list[float], values: list[float]) -> float:
    """By which share the median of the work's last fifth lies above that of its second fifth."""
    at, found = np.asarray(shares), np.asarray(values)
    return float(np.median(found[at > 0.8]) / np.median(found[(at > 0.2) & (at < 0.4)]) - 1)


def soak(folder: Path, steps: int, cycles: int) -> tuple[dict[str, Seen], list[str]]:
    """Run it all; returns what was seen at which shares of the work, and which of it grew."""
    seen: dict[str, Seen] = {}
    works = (("training", "step (ms)", train, steps), ("cycles", "cycle (ms)", repeat, cycles))
    for part, time_of, work, count in works:
        gc.collect()
        watch = Watch()
        took = work(folder, count, watch)
        shares = [row["share"] for row in watch.rows]
        for name in ("memory (MB)", "open files", "threads"):
            seen[f"{part}: {name}"] = shares, [row[name] for row in watch.rows]
        seen[f"{part}: {time_of}"] = [(n + 0.5) / len(took) for n in range(len(took))], took
    grew = []
    for name, values in seen.items():
        share = growth(*values)
        if share > ALLOWED[name.partition(": ")[2]]:
            grew.append(f"{name} by {100 * share:.1f} %")
    return seen, grew


def repeat(folder: Path, count: int, watch: Watch) -> list[float]:
    """Go through so many cycles, with a look behind each; returns their milliseconds of computing."""
    took = []
    for number in range(count):
        watch.share, began = (number + 0.5) / count, time.process_time()
        cycle(folder, number)
        took.append(1000 * (time.process_time() - began))
        gc.collect()  # files that are closed when it comes are not lost
        watch.look()
    return took


def tries(share: float, folder: Path, _: object) -> Iterator[None]:
    """A long run as a fault of `make torture`: a try is a hundred steps or a cycle.

    share: of the steps and cycles, where there is less time.
    """
    steps, cycles = int(share * STEPS), int(share * CYCLES)
    _, grew = soak(folder, steps, cycles)
    require(not grew, f"nothing to grow, found {', '.join(grew)}")
    for _ in range(steps // 100 + cycles):
        yield


def draw(seen: dict[str, Seen], path: Path) -> None:
    """Draw what was seen, a panel each."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(2, len(seen) // 2, figsize=(13, 4.5), layout="constrained")
    for panel, (name, (shares, values)) in zip(panels.flat, seen.items(), strict=True):
        at = sorted(set(shares))
        medians = [np.median([v for share, v in zip(shares, values, strict=True) if share == a]) for a in at]
        panel.plot(at, medians, linewidth=1)
        panel.set(title=name, ylim=(0, 1.15 * max(medians)), xlabel="share of the work")
    figure.savefig(path, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen, grew = soak(Path(folder), options.steps, options.cycles)
    for name, (_, values) in seen.items():
        fifth = max(len(values) // 5, 1)
        early, late = np.median(values[:fifth]), np.median(values[-fifth:])
        sys.stdout.write(f"{name:28} {early:10.1f} at first {late:10.1f} at last\n")
    if options.picture:
        draw(seen, options.picture)
    sys.stdout.write(f"grew: {', '.join(grew) or 'nothing'}\n")
    return 1 if grew else 0


if __name__ == "__main__":
    sys.exit(main())
