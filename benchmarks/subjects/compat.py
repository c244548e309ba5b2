"""Loops of other codebases before and after our ops: agreement, time and memory."""

import functools
import multiprocessing
import time

import torch

from benchmarks import run as runner
from benchmarks import show
from benchmarks.published import loops
from benchmarks.subject import Subject

WAYS = ("before", "after")
N, K = 128, 32768
SIZES = {"CMD": {"K": 16384}}  # as published; all others K


def disagreement(name, tensors):
    """The larger relative difference of loss and gradient."""
    pairs = zip(*(loops.step(name, way, tensors)() for way in WAYS), strict=True)
    return max(((after - before).norm() / before.norm()).item() for before, after in pairs)


def peak_memory(name, way, clips, size):
    """Bytes above the inputs at the highest point of a step, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_of_process, (name, way, clips, size, torch.get_num_threads()))


def _peak_of_process(name, way, clips, size, threads):
    torch.set_num_threads(threads)
    loops.step(name, way, loops.draw(4, 256, wide=64))()
    tensors = loops.draw(clips, size)
    runner.forget_peak()
    held = runner.resident("VmRSS")
    loops.step(name, way, tensors)()
    return runner.resident("VmHWM") - held


def measure(run, clips=N, size=K, rounds=5):
    for name in loops.LOOPS:
        K = min(size, SIZES.get(name, {}).get("K", size))
        tensors = loops.draw(clips, K)
        apart = disagreement(name, tensors)
        assert apart < 1e-3, f"{name}: {apart}"
        calls = {way: loops.step(name, way, tensors) for way in WAYS}
        peaks = {way: peak_memory(name, way, clips, K) for way in WAYS}
        run.compare(
            calls,
            rounds,
            clock=time.process_time,
            more=lambda way, peaks=peaks, apart=apart: {"peak_mb": peaks[way] / 1e6, "apart": apart},
            loop=name,
            clips=clips,
            K=K,
        )


def pairs(results):
    """(before, after) of each loop."""
    names = dict.fromkeys(row["loop"] for row in results.rows)
    return [[show.pick(results.rows, loop=name, way=way)[0] for way in WAYS] for name in names]


def table(results):
    rows = [
        (
            before["loop"],
            f"{before['clips']}, {before['K']}",
            show.spread(before),
            show.spread(after),
            show.ratio(after, before),
            f"{before['peak_mb']:.0f} → {after['peak_mb']:.0f}",
            f"{after['apart']:.0e}",
        )
        for before, after in pairs(results)
    ]
    columns = ("loop", "N, K", "before, ms|", "after, ms|", "gain|", "memory, MB|", "apart|")
    return show.table(columns, rows)


def headline(results):
    gains = [show.median(before) / show.median(after) for before, after in pairs(results)]
    return f"Losses of other codebases' loops become {min(gains):.1f} to {max(gains):.0f} times faster."


def calls():
    for name in loops.LOOPS:
        for way in WAYS:
            yield (
                f"losses of {name}",
                way,
                functools.partial(
                    lambda name, way: loops.step(name, way, loops.draw(8, 512, wide=256)), name, way
                ),
            )


SUBJECT = Subject(
    devices=("cpu",),
    about="""The losses of a step, forward and back, of loops that [drop-in](../drop_in.md) tells how to
change, as stand-ins in our own words (`benchmarks/published/loops.py`): before, every similarity written out;
after, by our ops. Times are of the processor, since other processes do not lengthen those. Memory is the
highest point above the inputs; apart is the larger relative difference of loss and gradient.""",
    measure=measure,
    show=table,
    headline=headline,
    calls=calls,
)
