"""How the loss benchmarks measure: agree first, then time in turn; medians, spread, peak memory, JSON."""

import contextlib
import functools
import json
import multiprocessing
import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median, quantiles

import torch
import torch.nn.functional as F

from benchmarks import baselines
from ikem_fast import ops
from ikem_fast.ops.bank import tiled

try:
    from nvtx import annotate  # names that nsys and ncu show
except ImportError:
    annotate = contextlib.nullcontext

ROOT = Path(__file__).resolve().parents[1]
P, D, S = 6, 128, 3
LOSSES = ("info_nce", "cross_modal_contrast", "implicit_exchange", "relational_distillation")
NEAREST = "nearest_neighbors"


def arguments(name, N, K, device, dtype):
    """Features, keys and bank of an op; keys lie near their queries, as they do in training."""
    draw = lambda *shape: torch.randn(*shape, device=device)  # noqa: E731
    q = draw(P, N, D)
    features = {"implicit_exchange": (P, N, P * D), "relational_distillation": (S, N, P * D)}
    learned = draw(*features[name]) if name in features else q
    keys = q + 0.5 * draw(P, N, D)
    return learned.to(dtype), keys.to(dtype), _bank(K, device, dtype)


@functools.lru_cache(maxsize=1)
def _bank(K, device, dtype):
    """Drawing a large bank takes longer than any loss: the last one is kept."""
    return F.normalize(torch.randn(P, K, D, device=device), dim=-1).to(dtype)


def fused(name, features, keys, queue):
    if name == NEAREST:
        return ops.nearest_neighbors(features, queue, baselines.TOPK, impl="fused")[0]
    return getattr(ops, name)(
        features, keys, queue, temperature=baselines.TEMPERATURE, reduction="none", impl="fused"
    )


WAYS = {
    "fused": fused,
    "published": baselines.published,
    "closed form": baselines.closed_form,
    "closed form, compiled": baselines.compiled,
    "linear_cross_entropy": baselines.linear_cross_entropy,
}


def step(way, names, tensors, backward):
    """A call without arguments: the sum of the losses of `names`, and its gradients if `backward`."""

    def run():
        for name in names:
            features, keys, queue = tensors[name]
            features = features.detach().requires_grad_(backward)
            with annotate(f"{way} {name} forward"):
                loss = WAYS[way](name, features, keys, queue)
            if backward:
                with annotate(f"{way} {name} backward"):
                    loss.float().mean(-1).sum().backward()
        return loss.detach(), features.grad

    return run


def disagreement(way, name, tensors):
    """Relative difference of loss and gradient of `way` from the closed form in float32."""
    backward = name != NEAREST
    exact = step("closed form", [name], {name: [t.float() for t in tensors[name]]}, backward)()
    mine = step(way, [name], tensors, backward)()
    pairs = zip(mine, exact, strict=True) if backward else [(mine[0], exact[0])]
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


def in_turn(runs, rounds, limit=float("inf")):
    """{name: seconds of each round}: one run of each a round, so that a busy machine slows all alike.

    No round begins when `limit` seconds have passed since the first.
    """
    seconds = {name: [] for name in runs}
    for run in runs.values():
        run()
    began = time.perf_counter()
    for done in range(rounds):
        if done and time.perf_counter() - began > limit:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def on_gpu(run, rounds=50):
    """Seconds of each replay of a CUDA graph of `run`, the cache flushed before each."""
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for start, end in events:
        flush.zero_()
        start.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in events]


def summary(seconds):
    tenths = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else seconds * 9
    return {"median_s": median(seconds), "p10_s": tenths[0], "p90_s": tenths[-1], "rounds": len(seconds)}


def peak_memory(way, names, N, K, device, dtype, backward=True):
    """Bytes above the inputs at the highest point of one step.

    On the CPU measured in a fresh process, after a small step has loaded what a first call loads.
    """
    if device == "cuda":
        tensors = {name: arguments(name, N, K, device, dtype) for name in names}
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step(way, names, tensors, backward)()
        return torch.cuda.max_memory_allocated() - before
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of_process, (way, names, N, K, dtype, backward, torch.get_num_threads()))


def _peak_of_process(way, names, N, K, dtype, backward, threads):
    torch.set_num_threads(threads)
    small = {name: arguments(name, 4, 256, "cpu", dtype) for name in names}
    step(way, names, small, backward)()
    tensors = {name: arguments(name, N, K, "cpu", dtype) for name in names}
    # Linux forgets the highest point so far when told to; what exec inherits as ru_maxrss is the parent's.
    Path("/proc/self/clear_refs").write_text("5")
    held = resident("VmRSS")
    step(way, names, tensors, backward)()
    return resident("VmHWM") - held


def resident(field):
    """Bytes of this process in memory: now (VmRSS) or at the highest point (VmHWM)."""
    line = next(line for line in _lines("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) * 1024


def ceilings(device, dtype):
    """What the machine does at best: a large matrix product, and a copy counted as read and written.

    The fastest of several runs: neighbours and clocks can only slow a ceiling down.
    """
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    memory = torch.empty((1 << 31) if device == "cuda" else (1 << 28), dtype=torch.uint8, device=device)
    target = torch.empty_like(memory)
    product = lambda: a @ b  # noqa: E731
    if device == "cpu" and dtype == torch.float32:  # where that may be the slower of torch's two libraries
        product = lambda: tiled.products(a[None], b[None])  # noqa: E731
    runs = {"product": product, "copy": lambda: target.copy_(memory)}
    seconds = {n: on_gpu(r, 10) for n, r in runs.items()} if device == "cuda" else in_turn(runs, 15)
    return {
        "operations_per_s": 2 * size**3 / min(seconds["product"]),
        "bytes_per_s": 2 * memory.numel() / min(seconds["copy"]),
    }


def machine(device):
    """What a figure depends on besides the code, and the code's commit."""
    cpu = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    found = {
        "cpu": cpu[0].split(":")[1].strip() if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }
    with contextlib.suppress(ImportError):
        import triton

        found["triton"] = triton.__version__
    return found


def write_json(path, content):
    """Beside, then renamed: a broken run leaves the last results whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(content, indent=1) + "\n")
    beside.replace(path)


def _lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _git(*arguments):
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else None
