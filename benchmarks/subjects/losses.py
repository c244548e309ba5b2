"""The bank losses over batches and banks: fused, published, closed form, compiled, torch's cross entropy."""

import functools
import itertools
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from benchmarks import harness, roofline, show
from benchmarks.harness import LOSSES, NEAREST, PHASE_2, WAYS, D, P, S
from benchmarks.subject import Subject

SETTING = {"N": 128, "K": 32768}
BATCHES = (64, 128, 512, 4096)
BANKS = (4096, 16384, 32768, 131072, 1 << 20)
AGREEMENT = {torch.float32: 1e-3, torch.bfloat16: 0.1}
COMPILED = "closed form, compiled"
COLUMNS = ("fused", "published", "closed form", COMPILED)
BOTH, FORWARD = "forward + backward", "forward"
KINDS = [
    (PHASE_2, BOTH),
    *(((name,), passes) for name in LOSSES for passes in (FORWARD, BOTH)),
    ((NEAREST,), FORWARD),
]


def similarities(names, N, K):
    """How many numbers a written-out formulation keeps at least: its logits."""
    logits = {"cross_modal_contrast": 3 * P * (P - 1), "relational_distillation": 3 * S * P}
    return max(logits.get(name, P) for name in names) * N * K


@dataclass
class Plan:
    """Which ways are measured at a size.

    bytes: a formulation that writes logits out is left out where these, in float32, are more than this.
    seconds: any way is left out where a run, at its rate at the largest size measured, takes longer; fused
    cross + exchange, which the plots show up to the largest bank, may take twelve times that.
    minutes: after which sizes that are still to come are left out.
    compiles(names, N, K, passes): whether torch.compile is given its minute.
    """

    bytes: int
    seconds: float
    minutes: float
    compiles: Callable
    rates: dict = field(default_factory=dict)

    def obstacle(self, way, names, N, K, passes, minutes):
        """Why a way is left out `minutes` into the run, or None."""
        if way == COMPILED and not self.compiles(names, N, K, passes):
            return "not compiled"
        if minutes > self.minutes:
            return "no time left"
        written = 4 * similarities(names, N, K)
        if way != "fused" and written > self.bytes:
            return f"logits of {written / 1e9:.1f} GB"
        _, rate = self.rates.get((way, names, passes), (0, 0.0))
        if rate * N * K > self.seconds * (12 if way == "fused" and names == PHASE_2 else 1):
            return f"about {rate * N * K:.1f} s"
        return None

    def took(self, way, names, N, K, passes, seconds):
        key, found = (way, names, passes), (N * K, seconds / (N * K))
        self.rates[key] = max(self.rates.get(key, found), found)


def ways_of(names):
    return [way for way in WAYS if way != "linear_cross_entropy" or names == ("implicit_exchange",)]


def plan_for(device):
    compiler = shutil.which(os.environ.get("CXX", "g++")) is not None

    def compiles(names, N, K, passes):
        if device == "cuda":  # a minute each, out of few
            return at_setting(N, K) or (passes == BOTH and set(names) <= set(PHASE_2))
        return compiler

    if device == "cuda":
        return Plan(bytes=60 << 30, seconds=math.inf, minutes=4, compiles=compiles)
    return Plan(bytes=4 << 30, seconds=1.0, minutes=20, compiles=compiles)


def at_setting(N, K):
    return {"N": N, "K": K} == SETTING


def check_agreement(plan, device, dtype):
    for name in (*LOSSES, NEAREST):
        for way in ways_of((name,)):
            # What is compiled is compiled for a size: the one that is timed then.
            size = SETTING if way == COMPILED else {"N": 16, "K": 2048}
            if way == COMPILED and not plan.compiles((name,), **SETTING, passes=BOTH):
                continue
            tensors = {name: harness.arguments(name, **size, device=device, dtype=dtype)}
            apart = harness.disagreement(way, name, tensors)
            if not apart <= AGREEMENT[dtype]:
                raise SystemExit(f"{name}: {way} is {apart:.1e} from the closed form; no speed is printed")


def measure_size(run, plan, names, N, K, passes, memory=False, rounds=3, limit=2.0):
    """Rows of one size: one for each way that was timed, and one of those left out, with the reason."""
    device, dtype = run.device, dtype_on(run.device)
    labels = {"losses": "+".join(names), "pass": passes, "N": N, "K": K}
    why = {way: plan.obstacle(way, names, N, K, passes, run.minutes()) for way in ways_of(names)}
    chosen = [way for way, obstacle in why.items() if obstacle is None]
    if chosen:
        tensors = {name: harness.arguments(name, N, K, device, dtype) for name in names}
        calls = {way: harness.step(way, names, tensors, passes == BOTH) for way in chosen}

        def peak(way):
            if not memory or (device == "cpu" and way == COMPILED):  # compiling anew takes a minute there
                return {}
            return {"peak_mb": harness.peak_memory(way, names, N, K, device, dtype, passes == BOTH) / 1e6}

        for row in run.compare(calls, rounds, limit, more=peak, **labels):
            plan.took(row["way"], names, N, K, passes, row["s"][1])
    left_out = {way: obstacle for way, obstacle in why.items() if obstacle not in (None, "not compiled")}
    if left_out:
        run.record(**labels, left_out=left_out)


def dtype_on(device):
    return torch.bfloat16 if device == "cuda" else torch.float32


def measure(run):
    device, dtype = run.device, dtype_on(run.device)
    plan = plan_for(device)
    check_agreement(plan, device, dtype)
    run.note(dtype=str(dtype).removeprefix("torch."), **harness.ceilings(device, dtype))
    for names, passes in KINDS:
        limit = 30.0 if names == PHASE_2 else 5.0
        measure_size(run, plan, names, **SETTING, passes=passes, memory=passes == BOTH, rounds=5, limit=limit)
    if run.settings.quick:
        return
    # From the smallest: the plan learns what larger ones would take. What the plots show comes first.
    sizes = [(K, N) for K in BANKS for N in BATCHES if not at_setting(N, K)]
    for some in (KINDS[:1], KINDS[1:]):
        for (K, N), (names, passes) in itertools.product(sizes, some):
            memory = names == PHASE_2 and (SETTING["N"] == N or BANKS[0] == K)
            measure_size(run, plan, names, N, K, passes, memory)


def timed(results):
    return [row for row in results.rows if "s" in row]


def at_size(results):
    return [row for row in timed(results) if at_setting(row["N"], row["K"])]


def phase_2(results):
    """Way → its row at the method's size, cross + exchange."""
    return {row["way"]: row for row in at_size(results) if row["losses"] == "+".join(PHASE_2)}


def headline(results):
    found = phase_2(results)
    mine = found.pop("fused")
    times = (f"{show.median(row) / show.median(mine):.1f} times ({way})" for way, row in found.items())
    memory = (f"{r['peak_mb'] / mine['peak_mb']:.0f} times ({w})" for w, r in found.items() if "peak_mb" in r)
    return (
        f"Cross + exchange, forward and backward, N = {SETTING['N']}, K = {SETTING['K']}: fused"
        f" {show.median(mine, 1e3):.4g} ms and {mine['peak_mb']:.0f} MB above the inputs."
        f" Time of the others: {', '.join(times)}; memory: {', '.join(memory)}."
    )


def table(results):
    """All there is of the method's size, then times over the grid of sizes."""
    about = results.about
    rows = []
    for row in at_size(results):
        itemsize = 2 if about["dtype"] == "bfloat16" else 4
        works = [
            roofline.work(name, P, row["N"], row["K"], D, S, itemsize, row["pass"] == BOTH)
            for name in row["losses"].split("+")
        ]
        seconds = show.median(row)
        rows.append((
            row["losses"].replace("+", " + "),
            row["pass"],
            row["way"],
            show.spread(row, digits=4),
            f"{sum(work.bytes for work in works) / seconds / 1e9:.2f}",
            f"{sum(work.operations for work in works) / seconds / 1e12:.3f}",
            f"{sum(work.floor(about) for work in works) / seconds:.0%}",
            f"{row['peak_mb']:.0f}" if "peak_mb" in row else "",
        ))  # fmt: skip
    columns = ("losses", "pass", "way", "ms (p10–p90)|", "GB/s|", "TFLOP/s|", "of roofline|", "memory, MB|")
    return [
        f"In {about['dtype']}. Ceilings measured beside them: {about['operations_per_s'] / 1e9:.0f} GFLOP/s, "
        f"{about['bytes_per_s'] / 1e9:.1f} GB/s.",
        "",
        *show.table(columns, rows),
        "",
        f"Median times in ms, {' / '.join(COLUMNS)}. {left_out(results)}",
        "",
        *grid(results),
    ]


def left_out(results):
    """How many measurements were left out by which rule, in one sentence."""
    why = Counter(
        "their logits pass the limit of memory" if "logits" in reason
        else "a run would take too long" if "about" in reason
        else "the minutes were used up"
        for row in results.rows for reason in row.get("left_out", {}).values()
    )  # fmt: skip
    reasons = ", ".join(f"{count} because {reason}" for reason, count in why.items())
    return f"Left out (–) are of all ways {reasons or 'none'}."


def grid(results):
    medians = {
        (r["losses"], r["pass"], r["N"], r["K"], r["way"]): show.median(r, 1e3) for r in timed(results)
    }
    rows = []
    for losses, passes in dict.fromkeys(key[:2] for key in medians):
        for N in sorted({key[2] for key in medians}):
            cells = []
            for K in BANKS:
                times = [medians.get((losses, passes, N, K, way)) for way in COLUMNS]
                cells.append(" / ".join("–" if t is None else f"{t:.3g}" for t in times))
            rows.append((losses.replace("+", " + "), passes, N, *cells))
    return show.table(("losses", "pass", "N|", *(f"K = {K}|" for K in BANKS)), rows)


def plots(results):
    """Time and memory against K and against N: forward and backward of phase 2, log axes."""
    from matplotlib.figure import Figure

    rows = show.pick(timed(results), losses="+".join(PHASE_2))
    values = {
        "time": ("time, s", show.median),
        "memory": ("memory above the inputs, MB", lambda row: row.get("peak_mb")),
    }
    figures = {}
    for kind, (label, value) in values.items():
        for against, (fixed, at) in {"K": ("N", SETTING["N"]), "N": ("K", BANKS[0])}.items():
            figure = Figure(figsize=(6, 4), layout="constrained")
            axes = figure.subplots()
            for way in WAYS:
                found = show.pick(rows, way=way, **{fixed: at})
                points = sorted((row[against], value(row)) for row in found if value(row))
                if points:
                    axes.loglog(*zip(*points, strict=True), marker="o", label=way)
            title = f"cross + exchange, forward + backward, {fixed} = {at}"
            axes.set(xlabel=against, ylabel=label, title=title)
            axes.grid(True, which="both", alpha=0.3)
            if axes.lines:
                axes.legend()
                figures[f"losses-{kind}-{against}"] = figure
    return figures


def calls():
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def make(way, name):
        tensors = {name: harness.arguments(name, **SETTING, device=device, dtype=dtype_on(device))}
        step = harness.step(way, [name], tensors, name != NEAREST)

        def finished():
            step()
            if device == "cuda":
                torch.cuda.synchronize()

        return finished

    for name in (*LOSSES, NEAREST):
        for way in ways_of((name,)):
            if way != COMPILED:
                yield f"{name}, N={SETTING['N']}, K={SETTING['K']}", way, functools.partial(make, way, name)


SUBJECT = Subject(
    about="""P modalities, N clips, K keys a modality, D numbers a feature: P = 6 and D = 128 below. The
least bytes and operations of each loss are in `benchmarks/roofline.py`; at N = 128 and K = 32768 the
cross-modal loss is 6.4 GFLOP forward and 12.9 backward, the exchange 38.7 and 38.7 (its gradient is the
weighted sum of keys that the forward pass can accumulate), and the banks are 101 MB in float32, 50 in
bfloat16.

| way | what it writes to memory |
| --- | --- |
| published | for each of the 30 pairs of modalities logits of (N, 65537), their logarithm, a mask |
| closed form (`impl="reference"`) | six similarity matrices, the products of pairs, their exponentials |
| fused | features, keys, and a few numbers for each clip and pair |

Each round runs every way once, in turn; on a GPU each time is the replay of a CUDA graph
with the cache flushed before it. Left out on a CPU are formulations whose logits alone take more than 4 GiB,
a way that would take more than a second a run (fused cross + exchange: twelve), and what is still to come
after twenty minutes.""",
    measure=measure,
    show=table,
    headline=headline,
    plots=plots,
    calls=calls,
)
