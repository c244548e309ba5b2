"""Readers: clips a second and memory, beside what a format's own code does to have its clips.

Every way ends with each clip as an array of its own. The files are made here, of random people, in the form
and the sizes that the datasets have. Both ways run in this process, in turn, and what counts is the
processor's time; memory is that of a process of each way's own.
"""

import ctypes
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import run as runner
from benchmarks import show
from benchmarks.published.readers import CASES
from benchmarks.subject import Subject
from ikem_fast.data import FORMATS
from ikem_fast.data.preprocess import Clip
from ikem_fast.skeleton import get_layout

EVEN = 0.95  # of the usual speed, from which on a difference is noise


def read_all(read, paths):
    """Read every clip, and keep none; returns how many there were."""
    return sum(1 for path in paths for _ in read(path))


def reader_of(name):
    """How we read one file of a case."""
    chosen = FORMATS[name.split()[0]]
    return partial(chosen.read, layout=get_layout("kinect-v1")) if chosen.name == "arrays" else chosen.read


def agree(ours, theirs, path):
    """Raise where the two ways give other coordinates."""
    for one, other in zip(ours(path), theirs(path), strict=True):
        ours_of_it = one.coordinates if isinstance(one, Clip) else one
        np.testing.assert_allclose(
            ours_of_it.reshape(-1), np.asarray(other).reshape(-1), rtol=1e-4, atol=1e-4
        )


def growth(call):
    """Megabytes by which memory grows at most while a process of its own does the call."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            ctypes.CDLL(None).malloc_trim(0)  # what is free already would be taken without growing
            runner.forget_peak()
            before = runner.resident("VmRSS")
            call()
            os.write(sender, str((runner.resident("VmHWM") - before) / 1e6).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(sender)
    with os.fdopen(receiver) as said:
        return float(said.read())


def measure(run, rounds=5):
    run.note(threads=1)
    rng = np.random.default_rng(0)
    for name, (make, usual, _) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            paths, ours = make(Path(scratch), rng), reader_of(name)
            if name != "ntu":  # of which the published reader takes other bodies
                agree(ours, usual, paths[0])
            ways = {
                "ours": lambda read=ours, paths=paths: read_all(read, paths),
                "usual": lambda read=usual, paths=paths: read_all(read, paths),
            }
            clips = ways["ours"]()
            peaks = {way: growth(call) for way, call in ways.items()}
            more = lambda way, peaks=peaks: {"peak_mb": peaks[way]}  # noqa: E731
            run.compare(ways, rounds, clock=time.process_time, more=more, format=name, clips=clips)


def compared(results):
    """(format, our row, the usual one) of every format that was measured."""
    for name in CASES:
        rows = {row["way"]: row for row in show.pick(results.rows, format=name)}
        if rows:
            yield name, rows["ours"], rows["usual"]


def table(results):
    rows = []
    for name, ours, usual in compared(results):
        speeds = [row["clips"] / show.median(row) for row in (ours, usual)]
        memory = [show.written(max(row["peak_mb"], 0.1), 2) for row in (ours, usual)]
        speeds_shown = [show.written(speed) for speed in speeds]
        rows.append((f"`{name}`", *speeds_shown, f"{speeds[0] / speeds[1]:.2f}×", CASES[name][2], *memory))
    columns = ("format", "clips/s|", "usual, clips/s|", "ratio|", "the usual way", "MB|", "usual, MB|")
    return show.table(columns, rows)


def headline(results):
    ratios = {name: show.median(usual) / show.median(ours) for name, ours, usual in compared(results)}
    slower = [f"`{name}` ({ratio:.2f} of its speed)" for name, ratio in ratios.items() if ratio < EVEN]
    but = f", but for {' and '.join(slower)}" if slower else ""
    return f"As fast as the usual way of each format or faster{but}."


SUBJECT = Subject(
    devices=("cpu",),
    about="""Clips read one after another on one core, each format's files as its dataset has them (400 clips
of 80 frames in arrays and pickles, 4,000 in `crossclr`'s, 20 files or fewer otherwise), beside what code of
that format does: processor time, each way in turn. MB is how far memory grows: rows, frames and arrays stay
in the file until they are asked for. The usual way ends with all clips in memory, but for `crossclr`'s: there
it is to copy one clip after another out of a map of the file, and no more; ours looks whether each is whole
(a body, finite coordinates, a frame count), and admits no label file that could run code.""",
    measure=measure,
    show=table,
    headline=headline,
)
