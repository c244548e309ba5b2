"""The bank losses: fused, published, closed form, compiled, and torch's own cross entropy.

`python -m pytest --benchmark benchmarks/bench_losses.py` times each by itself at the method's size.

usage: python -m benchmarks.bench_losses [--device cpu|cuda] [--threads N] [--rounds N] [--quick]
                                         [--publish] [--out benchmarks/results]

checks that all agree, times them over K and N, measures peak memory and writes losses-DEVICE.json and the
plots losses-DEVICE-*.png. On a GPU every time is the replay of a CUDA graph with the cache flushed before.
"""

import argparse
import json
import os
from pathlib import Path

import pytest
import torch

from benchmarks import harness, roofline
from benchmarks.harness import LOSSES, WAYS, D, P, S
from ikem_fast import ops

SETTING = {"N": 128, "K": 32768}
PHASE_2 = ("cross_modal_contrast", "implicit_exchange")
AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.1}
# Written-out formulations are left out where their logits alone would pass this many bytes.
MEMORY = {"cpu": 4 << 30, "cuda": 60 << 30}


def way_applies(way, names):
    return way != "linear_cross_entropy" or tuple(names) == ("implicit_exchange",)


def fits(way, names, N, K, device, itemsize):
    """Logits of the widest loss that a formulation keeps for its backward pass."""
    if way == "fused":
        return True
    rows = max({"info_nce": P, "implicit_exchange": P}.get(name, 3 * P * (P - 1)) for name in names)
    return rows * N * K * max(itemsize, 4) <= MEMORY[device]


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("way", [way for way in WAYS if "compiled" not in way])
def test_forward_and_backward(benchmark, way, name):
    if not way_applies(way, [name]):
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


def measure(names, ways, N, K, device, dtype, rounds, ceilings, backward, memory):
    """A row for each way: time and spread, the least work and its floor, and peak memory if asked for."""
    tensors = {name: harness.arguments(name, N, K, device, dtype) for name in names}
    applicable = [w for w in ways if way_applies(w, names) and fits(w, names, N, K, device, dtype.itemsize)]
    runs = {way: harness.step(way, names, tensors, backward) for way in applicable}
    if device == "cuda":
        seconds = {way: harness.on_gpu(run) for way, run in runs.items()}
    else:
        seconds = harness.in_turn(runs, rounds)
    works = [roofline.work(name, P, N, K, D, S, dtype.itemsize, backward) for name in names]
    rows = []
    for way in applicable:
        row = {"losses": "+".join(names), "way": way, "N": N, "K": K, "backward": backward}
        row |= harness.summary(seconds[way])
        row["bytes"] = sum(work.bytes for work in works)
        row["operations"] = sum(work.operations for work in works)
        row["floor_s"] = sum(work.floor(ceilings) for work in works)
        if memory:
            row["peak_bytes"] = harness.peak_memory(way, names, N, K, device, dtype, backward)
        rows.append(row)
        print(
            f"{row['losses']:40s} {'both' if backward else 'fwd':4s} N={N:5d} K={K:8d} {way:22s}"
            f" {row['median_s'] * 1e3:10.3f} ms" + (f"  {row['peak_bytes'] / 1e6:8.0f} MB" if memory else ""),
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


def check_agreement(ways, device, dtype):
    for name in LOSSES:
        tensors = {name: harness.arguments(name, 16, 2048, device, dtype)}
        for way in ways:
            if way_applies(way, [name]):
                apart = harness.disagreement(way, name, tensors)
                if not apart <= AGREEMENT[dtype]:
                    raise SystemExit(
                        f"{name}: {way} is {apart:.1e} from the closed form; no speed is printed"
                    )


def plot(rows, device, out):
    """Time against K and against N, memory against K: forward and backward of phase 2, log axes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    phase_2 = [row for row in rows if row["losses"] == "+".join(PHASE_2) and row["backward"]]
    for against, fixed, value, unit in (
        ("K", ("N", SETTING["N"]), "median_s", "time, s"),
        ("N", ("K", 4096), "median_s", "time, s"),
        ("K", ("N", SETTING["N"]), "peak_bytes", "memory above the inputs, bytes"),
    ):
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        for way in WAYS:
            points = [
                row for row in phase_2 if row["way"] == way and row[fixed[0]] == fixed[1] and value in row
            ]
            points = sorted({row[against]: row[value] for row in points}.items())
            if points:
                axes.loglog(*zip(*points, strict=True), marker="o", label=way)
        axes.set(
            xlabel=against,
            ylabel=unit,
            title=f"cross + exchange, forward + backward, {fixed[0]} = {fixed[1]}",
        )
        if not axes.lines:
            plt.close(figure)
            continue
        axes.grid(True, which="both", alpha=0.3)
        axes.legend()
        figure.savefig(out / f"losses-{device}-{value.split('_')[0]}-{against}.png", dpi=120)
        plt.close(figure)


def table(results):
    """The figures as Markdown, a line for each measurement."""
    machine, ceilings = results["machine"], results["ceilings"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
    lines = [
        f"{where}; torch {machine['torch']}; {results['dtype'].removeprefix('torch.')}; load before"
        f" {machine['load']:.1f}; commit {machine['commit'][:10]}. Ceilings measured beside them:"
        f" {ceilings['operations_per_s'] / 1e9:.0f} GFLOP/s, {ceilings['bytes_per_s'] / 1e9:.1f} GB/s.",
        "",
        "| losses | N | K | pass | way | median, ms (p10–p90) | GB/s | TFLOP/s | of roofline | memory, MB |",
        "| --- | --: | --: | --- | --- | --: | --: | --: | --: | --: |",
    ]
    for row in results["rows"]:
        low, middle, high = (f"{row[key] * 1e3:.4g}" for key in ("p10_s", "median_s", "p90_s"))
        memory = f"{row['peak_bytes'] / 1e6:.0f}" if "peak_bytes" in row else ""
        lines.append(
            f"| {row['losses'].replace('+', ' + ')} | {row['N']} | {row['K']} |"
            f" {'forward + backward' if row['backward'] else 'forward'} | {row['way']} |"
            f" {middle} ({low}–{high}) | {row['gb_per_s']:.2f} | {row['tflop_per_s']:.3f} |"
            f" {row['of_roofline']:.0%} | {memory} |"
        )
    return "\n".join(lines)


def publish(results, device, out):
    """Put the table and the plots between their two marks in docs/performance.md."""
    page = harness.ROOT / "docs" / "performance.md"
    start, end = (
        f"<!-- losses-{device}: written by benchmarks/bench_losses.py -->",
        f"<!-- losses-{device}: end -->",
    )
    text = page.read_text()
    before, after = text.split(start)[0], text.split(end)[1]
    plots = sorted(out.resolve().glob(f"losses-{device}-*.png"))
    images = [f"![{plot.stem}]({os.path.relpath(plot, page.parent)})" for plot in plots]
    page.write_text("\n".join([before + start, table(results), "", *images, end + after]))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5, help="on the CPU")
    parser.add_argument("--quick", action="store_true", help="the method's size alone")
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = arguments.device
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    ways = list(WAYS) if device == "cuda" else [way for way in WAYS if "compiled" not in way]

    check_agreement(ways, device, dtype)
    ceilings = harness.ceilings(device, dtype)
    print({name: f"{value:.3g}" for name, value in ceilings.items()})
    rows = []

    def run(names, N, K, backward=True, memory=False, rounds=arguments.rounds):
        rows.extend(measure(names, ways, N, K, device, dtype, rounds, ceilings, backward, memory))
        results = {
            "machine": harness.machine(device),
            "dtype": str(dtype),
            "ceilings": ceilings,
            "rows": [rates(row) for row in rows],
        }
        harness.write_json(arguments.out / f"losses-{device}.json", results)

    run(PHASE_2, **SETTING, memory=True)
    for name in LOSSES:
        for backward in (False, True):
            run([name], **SETTING, backward=backward, memory=backward)
    if not arguments.quick:
        for K in (4096, 16384, 131072, 1 << 20):
            run(
                PHASE_2,
                SETTING["N"],
                K,
                memory=K < 1 << 20,
                rounds=2 if SETTING["K"] < K else arguments.rounds,
            )
        for N in (64, 128, 512, 4096):
            run(PHASE_2, N, 4096, rounds=2 if N > 512 else arguments.rounds)
    plot(rows, device, arguments.out)
    if arguments.publish:
        publish(json.loads((arguments.out / f"losses-{device}.json").read_text()), device, arguments.out)


if __name__ == "__main__":
    main()
