"""`make torture`: faults injected for real, at random, while there is time, and a table of what was lost.

    python -m tools.torture [--minutes 38] [--seed N] [--only WORD]

Two processes work side by side, for which two cores are enough; in each, every fault has its share of the
minutes. A try is survived if what comes of it is what comes without the fault, or if it is refused with one
message; anything else (other bits, a traceback, a hang) is lost. Exits with 1 if anything was lost.
`tests/faults` has a short form of it.
"""

import argparse
import logging
import multiprocessing
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Empty

from tools.torture import disks, files, kernels, kills, ranks, soak

Fault = Callable[[Path, random.Random], Iterator[None]]
FAULTS: dict[str, tuple[Fault, float]] = {  # name → what tries it, its share of the time
    "kernels: bits, threads, fork, spawn": (kernels.same_bits_everywhere, 4),
    "kernels under sanitizers": (kernels.sanitized, 2),
    "kill -9 of pretraining, both phases": (kills.of_pretraining, 6),
    "kill -9 of distillation": (kills.of_distillation, 4),
    "kill -9 while checkpoints are written": (kills.while_writing, 4),
    "kill -9 of prepare, each format": (kills.of_preparation, 4),
    "signals to pretraining": (kills.told_to_stop, 2),
    "disk that fails (EIO, quota, read-only)": (disks.broken, 2),
    "disk that is full": (disks.full, 2),
    "folder gone; clips cut, replaced, deleted": (disks.gone, 2),
    "disk that fails in prepare": (disks.of_preparation, 1),
    "2 to 4 processes, one killed or stopped": (ranks.broken, 3),
    "torchrun begins again, 2 to 4 processes": (ranks.elastic, 3),
    "processes with other settings": (ranks.different, 1),
    "crafted files": (files.crafted, 4),
    "checkpoint with flipped, zeroed or missing bytes": (files.damaged_checkpoints, 1),
    **{f"changed bytes: {name}": (tries, 0.2) for name, tries in files.mutations().items()},
}


def torture(tries: Fault, seconds: float, draw: random.Random) -> tuple[int, int, list[str]]:
    """Return how many tries there were, how many were lost, and what is told of those."""
    count, lost = 0, []
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        generator = tries(Path(folder), draw)
        while not count or time.monotonic() < deadline:
            try:
                next(generator)
            except StopIteration:  # it has an end of its own
                break
            except Exception:  # whatever it is, it was not to be
                lost.append(traceback.format_exc()[-3000:])
                again = Path(folder) / f"again{len(lost)}"
                again.mkdir()
                generator = tries(again, draw)
            count += 1
            if len(lost) > 20:
                break
    return count, len(lost), lost


def work(faults: dict[str, tuple[Fault, float]], seconds: float, seed: int, told: Callable) -> None:
    """Try one fault after the other; what one leaves of its time is the others'."""
    deadline = time.monotonic() + seconds
    left = sum(share for _, share in faults.values())
    for name, (tries, share) in faults.items():
        mine = max(deadline - time.monotonic(), 0) * share / left
        left -= share
        told((name, *torture(tries, mine, random.Random(f"{seed} {name}"))))
    told(None)


def beside(minutes: float) -> dict[str, tuple[Fault, float]]:
    """What the second process tries, each of a length of its own: 20 of 38 minutes, and the long run."""
    fuzzing = int(60 * 20 / 38 * minutes / len(files.FAMILIES))
    long_run = partial(soak.tries, min(1.0, minutes / 38))
    return {
        "coverage-guided fuzzing (thousands)": (partial(files.fuzzed, fuzzing), 20),
        "50,000 steps, 200 prepare and predict": (long_run, 18),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=38)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", default="", help="faults whose names have this in them")
    options = parser.parse_args()
    seconds = 60 * options.minutes
    sides = [{name: fault for name, fault in faults.items() if options.only in name}
             for faults in (FAULTS, beside(options.minutes))]  # fmt: skip
    sys.stdout.write(f"seed {options.seed}\n{'fault':50} {'tries':>9} {'survived':>9} {'lost':>6}\n")
    context, queue = multiprocessing.get_context("spawn"), multiprocessing.get_context("spawn").Queue()
    group = [
        context.Process(target=_side, args=(number, seconds, options, queue))
        for number in range(2)
        if sides[number]
    ]
    for process in group:
        process.start()
    total, over = 0, 0
    while over < len(group):
        try:
            told = queue.get(timeout=10)
        except Empty:
            if all(process.is_alive() or process.exitcode == 0 for process in group):
                continue
            sys.stderr.write("a process of the torture itself died\n")
            return 1
        if told is None:
            over += 1
            continue
        name, count, lost, said = told
        sys.stdout.write(f"{name:50} {count:9} {count - lost:9} {lost:6}\n")
        sys.stdout.flush()
        for text in said:
            sys.stderr.write(f"{name}: lost\n{text}\n")
        total += lost
    for process in group:
        process.join()
    return 1 if total else 0


def _side(number, seconds, options, queue):
    logging.getLogger("tensorboard").setLevel(logging.ERROR)  # it tells of every run that was begun again
    faults = (FAULTS, beside(options.minutes))[number]
    work({n: fault for n, fault in faults.items() if options.only in n}, seconds, options.seed, queue.put)
