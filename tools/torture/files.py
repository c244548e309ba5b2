"""Files of strangers: crafted ones, right ones with bytes changed, and checkpoints with bits flipped."""

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from ikem_fast.errors import InputError
from ikem_fast.train import load_checkpoint
from tests.faults import test_hostile
from tests.faults.confined import confined
from tests.faults.runs import ROOT, finish
from tools.torture.common import Lost, pretraining, require
from tools.torture.readers import FAMILIES, answered, every_reader

HANG = 10  # seconds after which a reader hangs


def crafted(folder, draw):
    """Every file of the corpus, once."""
    tries = [
        *test_hostile.formats(folder), *test_hostile.zipped(folder), *test_hostile.others(folder),
    ]  # fmt: skip
    for name, outcome in confined(tries, folder):
        require(not outcome.problem, f"{name}: {outcome.problem}")
        yield


def damaged_checkpoints(folder, draw):
    """A bit flipped, bytes zeroed, an end cut off."""
    run = folder / "run"
    require(finish(pretraining(run))[0] == 0, "no run")
    whole, path = (run / "checkpoint.pt").read_bytes(), folder / "damaged.pt"
    while True:
        content = bytearray(whole)
        way, place = draw.randrange(4), draw.randrange(len(whole))
        if way == 0:
            del content[place:]
        elif way == 1:
            content[place : place + 4096] = bytes(len(content[place : place + 4096]))
        else:
            content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            load_checkpoint(path)
        except InputError:
            pass
        else:
            require(content == whole, f"accepted with way {way} at {place}")
        yield


CONFUSING = (
    b"\xff" * 8, bytes(8), b"-1", b"1e999", b"nan", b"[[[[", b"\x1b[2J", b"99999999999", b"PK\5\6", b"{",
)  # fmt: skip


def mutated(content, draw):
    """Bytes changed, left out, repeated or replaced by what confuses readers."""
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place = draw.randrange(len(content) + 1)
        end = place + draw.choice((1, 2, 4, 8, 64))
        way = draw.randrange(4)
        if way == 0 and place < len(content):
            content[place] = draw.randrange(256)
        elif way == 1:
            del content[place:end]
        elif way == 2:
            content[place:place] = content[place:end] * draw.randrange(4)
        else:
            content[place:end] = draw.choice(CONFUSING)
    return bytes(content)


def hostile(names, folder, draw):
    """Mutated bytes given to some readers: what they are for, or one message, in bounded time."""
    readers = every_reader(folder / "readers")
    signal.signal(signal.SIGALRM, _hangs)
    while True:
        for name in names:
            content = mutated(draw.choice(readers[name].samples), draw)
            signal.alarm(HANG)
            try:
                answered(readers[name].read, content)
            except Exception as error:
                kept = Path(tempfile.gettempdir()) / f"torture-{name}"
                kept.write_bytes(content)
                raise Lost(f"{name}: {type(error).__name__} {error}; the bytes are in {kept}") from error
            finally:
                signal.alarm(0)
            yield


def _hangs(*_):
    raise Lost(f"no answer in {HANG} seconds")


def mutations():
    """Family of readers → the fault of that name."""
    return {name: partial(hostile, names) for name, names in FAMILIES.items()}


def fuzzed(seconds, folder, draw):
    """Each family by coverage, in a process of its own: a try is a thousand inputs that were answered."""
    try:
        import atheris  # noqa: F401
    except ImportError:
        sys.stderr.write("no fuzzing by coverage: make torture installs atheris\n")
        return
    for family in FAMILIES:
        corpus = folder / family
        command = [sys.executable, "-m", "tools.torture.fuzz", family, "--seconds", str(seconds), "--corpus",
                   str(corpus), "--seed", str(draw.getrandbits(31))]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
        words = done.stderr.split()
        runs = next((int(words[at + 1]) for at, word in enumerate(words[:-2]) if word == "Done"), 0)
        broke = [path for path in corpus.glob("*-*") if path.name.startswith(("crash", "oom", "timeout"))]
        left = [
            path for path in broke if path.stat().st_size or not runs
        ]  # torch's threads may die at the end
        for path in left:
            path.rename(Path(tempfile.gettempdir()) / f"torture-{family}-{path.name}")
        require(runs and not left, f"{family}: {done.stdout[-2500:]} {done.stderr[-500:]}")
        for _ in range(max(runs // 1000, 1)):
            yield
