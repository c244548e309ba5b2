"""The bank losses: fused, published, closed form, compiled, and torch's own cross entropy.

`python -m pytest --benchmark benchmarks/bench_losses.py` times each by itself at the method's size.

usage: python -m benchmarks.bench_losses [--device cpu|cuda] [--threads N] [--quick] [--publish]
                                         [--out benchmarks/results]

checks that all agree, times each op and cross + exchange over K and N, measures peak memory and writes
losses-DEVICE.json and the plots losses-DEVICE-*.png; --publish puts the tables into docs/performance.md.
On a GPU every time is the replay of a CUDA graph with the cache flushed before. What is left out, and why,
is decided by `Plan` and listed in the JSON.
"""

import argparse
import itertools
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from benchmarks import harness, roofline
from benchmarks.harness import LOSSES, NEAREST, WAYS, D, P, S
from benchmarks.publish import publish, where
from ikem_fast import ops

SETTING = {"N": 128, "K": 32768}
BATCHES = (64, 128, 512, 4096)
BANKS = (4096, 16384, 32768, 131072, 1 << 20)
PHASE_2 = ("cross_modal_contrast", "implicit_exchange")
AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.1}
COMPILED = "closed form, compiled"
COLUMNS = ("fused", "published", "closed form", COMPILED)


def similarities(names, N, K):
    """How many numbers a written-out formulation keeps at least: its logits."""
    logits = {"cross_modal_contrast": 3 * P * (P - 1), "relational_distillation": 3 * S * P}
    return max(logits.get(name, P) for name in names) * N * K


@dataclass
class Plan:
    """Which ways are measured at a size. What a rule leaves out is kept in `left_out`, with the rule.

    bytes: a formulation that writes logits out is left out where these, in float32, are more than this.
    seconds: any way is left out where a run, at its rate at the largest size measured, takes longer; fused
    cross + exchange, which the plots show up to the largest bank, may take twelve times that.
    minutes: after which sizes that are still to come are left out.
    compiles(names, N, K, backward): whether torch.compile is given its minute.
    """

    bytes: int
    seconds: float
    minutes: float
    compiles: Callable
    began: float = field(default_factory=time.monotonic)
    rates: dict = field(default_factory=dict)
    left_out: list = field(default_factory=list)

    def ways(self, names, N, K, backward):
        chosen = []
        for way in ways_of(names):
            why = self._obstacle(way, names, N, K, backward)
            if why:
                size = {"losses": "+".join(names), "N": N, "K": K, "backward": backward}
                self.left_out.append(size | {"way": way, "why": why})
            else:
                chosen.append(way)
        return chosen

    def _obstacle(self, way, names, N, K, backward):
        if way == COMPILED and not self.compiles(names, N, K, backward):
            return "not compiled"
        if time.monotonic() - self.began > 60 * self.minutes:
            return "no time left"
        written = 4 * similarities(names, N, K)
        if way != "fused" and written > self.bytes:
            return f"logits of {written / 1e9:.1f} GB"
        _, rate = self.rates.get((way, names, backward), (0, 0.0))
        if rate * N * K > self.seconds * (12 if way == "fused" and names == PHASE_2 else 1):
            return f"about {rate * N * K:.1f} s"
        return None

    def took(self, way, names, N, K, backward, seconds):
        key, found = (way, names, backward), (N * K, seconds / (N * K))
        self.rates[key] = max(self.rates.get(key, found), found)


def ways_of(names):
    return [way for way in WAYS if way != "linear_cross_entropy" or names == ("implicit_exchange",)]


def plan_for(device):
    compiler = shutil.which(os.environ.get("CXX", "g++")) is not None

    def compiles(names, N, K, backward):
        if device == "cuda":  # a minute each, out of few
            return at_setting(N, K) or (backward and set(names) <= set(PHASE_2))
        return compiler

    if device == "cuda":
        return Plan(bytes=60 << 30, seconds=math.inf, minutes=4, compiles=compiles)
    return Plan(bytes=4 << 30, seconds=1.0, minutes=20, compiles=compiles)


def at_setting(N, K):
    return {"N": N, "K": K} == SETTING


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("way", [way for way in WAYS if "compiled" not in way])
def test_forward_and_backward(benchmark, way, name):
    if way not in ways_of((name,)):
        pytest.skip("torch's linear cross entropy serves the implicit exchange alone")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    run = harness.step(
        way, [name], {name: harness.arguments(name, **SETTING, device=device, dtype=dtype)}, True
    )

    def finished():
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    benchmark.group = f"{name}, N={SETTING['N']}, K={SETTING['K']}"
    benchmark.pedantic(finished, rounds=3, warmup_rounds=1)


def test_nearest_neighbors(benchmark):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    q, _, bank = harness.arguments("info_nce", **SETTING, device=device, dtype=torch.float32)
    benchmark.group = "nearest_neighbors"
    benchmark.pedantic(lambda: ops.nearest_neighbors(q, bank, 1)[0].sum().item(), rounds=3, warmup_rounds=1)


def measure(names, N, K, device, dtype, plan, ceilings, backward, memory, rounds, limit):
    """A row for each way: time and spread, the least work and its floor, and peak memory if asked for."""
    ways = plan.ways(names, N, K, backward)
    if not ways:
        return []
    tensors = {name: harness.arguments(name, N, K, device, dtype) for name in names}
    runs = {way: harness.step(way, names, tensors, backward) for way in ways}
    if device == "cuda":
        seconds = {way: harness.on_gpu(run) for way, run in runs.items()}
    else:
        seconds = harness.in_turn(runs, rounds, limit)
    works = [roofline.work(name, P, N, K, D, S, dtype.itemsize, backward) for name in names]
    rows = []
    for way in ways:
        row = {"losses": "+".join(names), "way": way, "N": N, "K": K, "backward": backward}
        row |= harness.summary(seconds[way])
        plan.took(way, names, N, K, backward, row["median_s"])
        row["bytes"] = sum(work.bytes for work in works)
        row["operations"] = sum(work.operations for work in works)
        row["floor_s"] = sum(work.floor(ceilings) for work in works)
        if memory and (device == "cuda" or way != COMPILED):  # compiling anew takes a minute on a CPU
            row["peak_bytes"] = harness.peak_memory(way, names, N, K, device, dtype, backward)
        rows.append(row)
        print(
            f"{row['losses']:40s} {'both' if backward else 'fwd':4s} N={N:5d} K={K:8d} {way:22s}"
            f" {row['median_s'] * 1e3:10.3f} ms"
            + (f"  {row['peak_bytes'] / 1e6:8.0f} MB" if "peak_bytes" in row else ""),
            flush=True,
        )
    return rows


def rates(row):
    """What the figures of a row mean per second, and as a fraction of the roofline."""
    seconds = row["median_s"]
    return row | {
        "gb_per_s": row["bytes"] / seconds / 1e9,
        "tflop_per_s": row["operations"] / seconds / 1e12,
        "of_roofline": row["floor_s"] / seconds,
    }


def check_agreement(plan, device, dtype):
    for name in (*LOSSES, NEAREST):
        for way in ways_of((name,)):
            # What is compiled is compiled for a size: the one that is timed then.
            size = SETTING if way == COMPILED else {"N": 16, "K": 2048}
            if way == COMPILED and not plan.compiles((name,), **SETTING, backward=name != NEAREST):
                continue
            tensors = {name: harness.arguments(name, **size, device=device, dtype=dtype)}
            apart = harness.disagreement(way, name, tensors)
            if not apart <= AGREEMENT[dtype]:
                raise SystemExit(f"{name}: {way} is {apart:.1e} from the closed form; no speed is printed")


def plot(rows, device, out):
    """Time and memory against K and against N: forward and backward of phase 2, log axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    phase_2 = [row for row in rows if row["losses"] == "+".join(PHASE_2) and row["backward"]]
    for value, unit in (("median_s", "time, s"), ("peak_bytes", "memory above the inputs, bytes")):
        for against, (fixed, at) in {"K": ("N", SETTING["N"]), "N": ("K", BANKS[0])}.items():
            figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
            for way in WAYS:
                points = {
                    row[against]: row[value]
                    for row in phase_2
                    if row["way"] == way and row[fixed] == at and value in row
                }
                if points:
                    axes.loglog(*zip(*sorted(points.items()), strict=True), marker="o", label=way)
            axes.set(
                xlabel=against,
                ylabel=unit,
                title=f"cross + exchange, forward + backward, {fixed} = {at}",
            )
            axes.grid(True, which="both", alpha=0.3)
            if axes.lines:
                axes.legend()
                figure.savefig(out / f"losses-{device}-{value.split('_')[0]}-{against}.png", dpi=120)
            plt.close(figure)


def ratios(rows):
    """What the other ways take more than the fused one at the method's size, phase 2, in one sentence."""
    at = {"losses": "+".join(PHASE_2), **SETTING, "backward": True}
    found = {row["way"]: row for row in rows if all(row[key] == value for key, value in at.items())}
    mine = found.pop("fused")
    times = (f"{row['median_s'] / mine['median_s']:.1f} times ({way})" for way, row in found.items())
    memory = (
        f"{row['peak_bytes'] / mine['peak_bytes']:.0f} times ({way})"
        for way, row in found.items()
        if "peak_bytes" in row
    )
    return (
        f"Cross + exchange, forward and backward, N = {SETTING['N']}, K = {SETTING['K']}: fused"
        f" {mine['median_s'] * 1e3:.4g} ms and {mine['peak_bytes'] / 1e6:.0f} MB above the inputs."
        f" Time of the others: {', '.join(times)}; memory: {', '.join(memory)}."
    )


def left_out(results):
    """How many measurements were left out by which rule, in one sentence."""
    why = Counter(
        "their logits pass the limit of memory" if "logits" in row["why"]
        else "a run would take too long" if "about" in row["why"]
        else "the minutes were used up"
        for row in results["left_out"] if row["why"] != "not compiled"
    )  # fmt: skip
    reasons = ", ".join(f"{count} because {reason}" for reason, count in why.items())
    return f"Left out (–) are of all ways {reasons or 'none'}."


def table(results):
    """The figures as Markdown: all there is of the method's size, then times over the grid of sizes."""
    ceilings = results["ceilings"]
    lines = [
        f"{where(results['machine'])} In {results['dtype'].removeprefix('torch.')}. Ceilings measured beside"
        f" them: {ceilings['operations_per_s'] / 1e9:.0f} GFLOP/s, {ceilings['bytes_per_s'] / 1e9:.1f} GB/s.",
        "",
        ratios(results["rows"]),
        "",
        "| losses | pass | way | median, ms (p10–p90) | GB/s | TFLOP/s | of roofline | memory, MB |",
        "| --- | --- | --- | --: | --: | --: | --: | --: |",
    ]
    for row in results["rows"]:
        if not at_setting(row["N"], row["K"]):
            continue
        low, middle, high = (f"{row[key] * 1e3:.4g}" for key in ("p10_s", "median_s", "p90_s"))
        memory = f"{row['peak_bytes'] / 1e6:.0f}" if "peak_bytes" in row else ""
        lines.append(
            f"| {row['losses'].replace('+', ' + ')} | {_passes(row)} | {row['way']} |"
            f" {middle} ({low}–{high}) | {row['gb_per_s']:.2f} | {row['tflop_per_s']:.3f} |"
            f" {row['of_roofline']:.0%} | {memory} |"
        )
    sizes = sorted({(row["N"], row["K"]) for row in results["rows"]})
    lines += [
        "",
        f"Median times in ms, fused / published / closed form / compiled. {left_out(results)}",
        "",
    ]
    lines += [f"| losses | pass | N | {' | '.join(f'K = {K}' for K in BANKS)} |"]
    lines += ["| --- | --- | --: " + "| --: " * len(BANKS) + "|"]
    medians = {
        (row["losses"], row["backward"], row["N"], row["K"], row["way"]): row["median_s"]
        for row in results["rows"]
    }
    kinds = list(dict.fromkeys((row["losses"], row["backward"]) for row in results["rows"]))
    for losses, backward in kinds:
        for N in sorted({N for N, _ in sizes}):
            cells = []
            for K in BANKS:
                times = [medians.get((losses, backward, N, K, way)) for way in COLUMNS]
                cells.append(" / ".join("–" if t is None else f"{t * 1e3:.3g}" for t in times))
            passes = _passes({"backward": backward})
            lines.append(f"| {losses.replace('+', ' + ')} | {passes} | {N} | {' | '.join(cells)} |")
    return lines


def _passes(row):
    return "forward + backward" if row["backward"] else "forward"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="the method's size alone")
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = arguments.device
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    plan = plan_for(device)
    arguments.out.mkdir(parents=True, exist_ok=True)

    check_agreement(plan, device, dtype)
    ceilings = harness.ceilings(device, dtype)
    print({name: f"{value:.3g}" for name, value in ceilings.items()})
    rows = []
    machine = harness.machine(device)

    def run(names, N, K, backward=True, memory=False, rounds=5, limit=2.0):
        rows.extend(measure(names, N, K, device, dtype, plan, ceilings, backward, memory, rounds, limit))
        results = {
            "machine": machine,
            "dtype": str(dtype),
            "ceilings": ceilings,
            "rows": [rates(row) for row in rows],
            "left_out": plan.left_out,
        }
        harness.write_json(arguments.out / f"losses-{device}.json", results)

    kinds = [(PHASE_2, True)]
    kinds += [((name,), backward) for name in LOSSES for backward in (False, True)] + [((NEAREST,), False)]
    for names, backward in kinds:
        run(names, **SETTING, backward=backward, memory=backward, limit=30.0 if names == PHASE_2 else 5.0)
    if not arguments.quick:
        # From the smallest: the plan learns what larger ones would take. What the plots show comes first.
        sizes = [(K, N) for K in BANKS for N in BATCHES if not at_setting(N, K)]
        for some in (kinds[:1], kinds[1:]):
            for (K, N), (names, backward) in itertools.product(sizes, some):
                memory = names == PHASE_2 and (SETTING["N"] == N or BANKS[0] == K)
                run(names, N, K, backward, memory, rounds=3)
    plot(rows, device, arguments.out)
    if arguments.publish:
        results = json.loads((arguments.out / f"losses-{device}.json").read_text())
        publish(f"losses-{device}", table(results), sorted(arguments.out.glob(f"losses-{device}-*.png")))


if __name__ == "__main__":
    main()
