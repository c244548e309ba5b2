"""What faults share: how one is lost, and a run that is broken off until it ends by itself."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.faults.runs import differences, finish, start, words

STEPS = ("--max-steps", 40, "--exchange-from", 8, "--checkpoint-steps", 3)
STUDENTS = ("--max-steps", 30, "--checkpoint-steps", 3, "--students", "[joint]")
SPAN = 4.0  # seconds within which a run is broken off


class Lost(Exception):
    """What came of a try is not what was promised."""


def require(truth: object, said: str) -> None:
    if not truth:
        raise Lost(said)


def pretraining(out: Path) -> list[str]:
    """Words of a run through both phases."""
    return words("pretrain", out, *STEPS)


def distillation(folder: Path) -> Callable[[Path], list[str]]:
    """Train a teacher; returns what makes the words of a distillation of it."""
    teacher = folder / "teacher"
    status, said = finish(pretraining(teacher))
    require(status == 0, said)
    return lambda out: words("distill", out, "--teacher", teacher, *STUDENTS)


def broken_off(
    folder: Path,
    draw: random.Random,
    argv: Callable[[Path], list[str]],
    spoil: Callable[[], tuple[Callable | None, Callable | None]],
    statuses: tuple[int, ...],
) -> Iterator[None]:
    """Yield whenever a run was broken off; at last it is what one that was not is, and another begins.

    argv: from the folder of a run to its words.
    spoil: what is called in the run's process ahead of it, and what is done to that process at a random
        moment: one of them None.
    statuses: that a run which was broken off may end with.
    """
    whole = folder / "whole"
    status, said = finish(argv(whole))
    require(status == 0, said)
    while True:
        out = folder / f"run{draw.getrandbits(40)}"
        broken = 0
        while True:
            before, then = spoil() if broken < 8 else (None, None)  # a run may not come to its first step
            process = start(argv(out), before)
            if then is not None:
                process.join(draw.random() * SPAN)
                if process.is_alive():
                    then(process)
            process.join(120)
            hung = process.is_alive()
            process.kill()
            process.join()
            said = process.errors.read_text()
            require(not hung, f"hangs: {said[-1000:]}")
            require("Traceback" not in said, said[-2000:])
            require(process.exitcode in (0, *statuses), f"status {process.exitcode}: {said[-1000:]}")
            if process.exitcode == 0:
                break
            broken += 1
            yield
        found = differences(whole, out)
        require(not found, f"differs in {found[:5]}")


def within(seconds: float, process) -> float:
    """Wait for a process to end; returns how long it took. Raises Lost where it does not."""
    began = time.monotonic()
    process.join(seconds)
    require(not process.is_alive(), f"no end in {seconds} seconds: {process.errors.read_text()[-500:]}")
    return time.monotonic() - began


def killed(number: int = signal.SIGKILL) -> int:
    """The exit status of a process that a signal ended, as Python has it."""
    return -number
