"""The bank losses as calls: arguments, the ways to compute them, their agreement, peak memory, ceilings."""

import contextlib
import functools
import multiprocessing

import torch
import torch.nn.functional as F

from benchmarks import run
from benchmarks.published import losses as published
from ikem_fast import ops

try:
    from nvtx import annotate  # names that nsys and ncu show
except ImportError:
    annotate = contextlib.nullcontext

P, D, S = 6, 128, 3
LOSSES = ("info_nce", "cross_modal_contrast", "implicit_exchange", "relational_distillation")
NEAREST = "nearest_neighbors"
PHASE_2 = ("cross_modal_contrast", "implicit_exchange")


def arguments(name, N, K, device, dtype):
    """Features, keys and bank of an op; keys lie near their queries, as they do in training."""
    draw = functools.partial(torch.randn, device=device)
    q = draw(P, N, D)
    features = {"implicit_exchange": (P, N, P * D), "relational_distillation": (S, N, P * D)}
    learned = draw(*features[name]) if name in features else q
    keys = q + 0.5 * draw(P, N, D)
    return learned.to(dtype), keys.to(dtype), _bank(K, device, dtype)


@functools.lru_cache(maxsize=1)
def _bank(K, device, dtype):
    """Drawing a large bank takes longer than any loss: the last one is kept."""
    return F.normalize(torch.randn(P, K, D, device=device), dim=-1).to(dtype)


def _op(impl, name, features, keys, queue):
    if name == NEAREST:
        return ops.nearest_neighbors(features, queue, published.TOPK, impl=impl)[0]
    return getattr(ops, name)(
        features, keys, queue, temperature=published.TEMPERATURE, reduction="none", impl=impl
    )


@functools.cache
def _compiled(name):
    torch._dynamo.config.recompile_limit = 64  # all losses and passes go through one function
    return torch.compile(functools.partial(_op, "reference", name))


WAYS = {
    "fused": functools.partial(_op, "fused"),
    "published": published.published,
    "closed form": functools.partial(_op, "reference"),
    "closed form, compiled": lambda name, *tensors: _compiled(name)(*tensors),
}
if hasattr(F, "linear_cross_entropy"):  # not in torch 2.11
    WAYS["linear_cross_entropy"] = published.linear_cross_entropy


def step(way, names, tensors, backward):
    """A call without arguments: the sum of the losses of `names`, and its gradients if `backward`."""

    def call():
        for name in names:
            features, keys, queue = tensors[name]
            features = features.detach().requires_grad_(backward)
            with annotate(f"{way} {name} forward"):
                loss = WAYS[way](name, features, keys, queue)
            if backward:
                with annotate(f"{way} {name} backward"):
                    loss.float().mean(-1).sum().backward()
        return loss.detach(), features.grad

    return call


def disagreement(way, name, tensors):
    """Relative difference of loss and gradient of `way` from the closed form in float32."""
    backward = name != NEAREST
    exact = step("closed form", [name], {name: [t.float() for t in tensors[name]]}, backward)()
    mine = step(way, [name], tensors, backward)()
    pairs = zip(mine, exact, strict=True) if backward else [(mine[0], exact[0])]
    return max(((a - b).norm() / b.norm()).item() for a, b in pairs)


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
    run.forget_peak()
    held = run.resident("VmRSS")
    step(way, names, tensors, backward)()
    return run.resident("VmHWM") - held


def ceilings(device, dtype):
    """What the machine does at best: a large matrix product, and a copy counted as read and written.

    The fastest of several runs, since neighbors and clocks can only slow a ceiling down; and of torch's two
    matrix libraries on a CPU, since which one is faster depends on the processor.
    """
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    memory = torch.empty((1 << 31) if device == "cuda" else (1 << 28), dtype=torch.uint8, device=device)
    target = torch.empty_like(memory)
    runs = {"product": lambda: torch.mm(a, b), "copy": lambda: target.copy_(memory)}
    if device == "cpu" and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        runs["product of oneDNN"] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
    seconds = {n: run.on_gpu(r, 10) for n, r in runs.items()} if device == "cuda" else run.in_turn(runs, 15)
    return {
        "operations_per_s": 2 * size**3 / min(s for n in seconds if "product" in n for s in seconds[n]),
        "bytes_per_s": 2 * memory.numel() / min(seconds["copy"]),
    }
