"""`make torture`: faults injected for real, at random, while there is time, and a table of what was lost.

    python tools/torture.py [--minutes 35] [--seed N]

Each fault has its share of the minutes. A try is survived if what comes of it is what comes without the
fault, or if it is refused with one message; anything else (other bits, a traceback, a hang) is lost. Exits
with 1 if anything was lost. `tests/faults` has a short form of it.
"""

import argparse
import contextlib
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ikem_fast.data.formats.npz import PackedClips  # noqa: E402
from ikem_fast.data.formats.nw_ucla import parse_clip as parse_json  # noqa: E402
from ikem_fast.data.formats.utd_mhad import parse_clip as parse_mat  # noqa: E402
from ikem_fast.data.skeletons import parse_in_python, parse_skeleton  # noqa: E402
from ikem_fast.errors import InputError  # noqa: E402
from ikem_fast.train import load_checkpoint  # noqa: E402
from tests.faults.runs import differences, finish, start, words  # noqa: E402
from tests.helpers import contents  # noqa: E402

STEPS = ("--max-steps", 40, "--exchange-from", 8, "--checkpoint-steps", 3)
STUDENTS = ("--max-steps", 30, "--checkpoint-steps", 3, "--students", "[joint]")
HANG = 10  # seconds after which a reader hangs


class Lost(Exception):
    """What came of a try is not what was promised."""


def interrupted(folder, draw, argv, whole, signals):
    """Yield whenever a run of these words was ended at a random moment; at last it is what `whole` is."""
    status, said = finish(argv(whole))
    require(status == 0, said)
    span = 3.0
    while True:
        out = folder / f"run{draw.getrandbits(40)}"
        while True:
            process, began = start(argv(out)), time.monotonic()
            process.join(draw.random() * span)
            ended = not process.is_alive()
            if not ended:
                os.kill(process.pid, draw.choice(signals))
            process.join(120)
            process.kill()
            said = process.errors.read_text()
            require("Traceback" not in said, said[-2000:])
            require(process.exitcode in (0, 75, -signal.SIGKILL, *(-number for number in signals)), said)
            if process.exitcode == 0:
                break
            span = 0.9 * span + 0.1 * min(2 * (time.monotonic() - began), 20.0)
            yield
        found = differences(whole, out) if (out / "metrics.jsonl").exists() else []
        require(not found, f"differs in {found[:5]}")
        yield


def pretraining(folder, draw):
    """Runs through both phases, killed."""
    return interrupted(
        folder, draw, lambda out: words("pretrain", out, *STEPS), folder / "whole", [signal.SIGKILL]
    )


def signaled(folder, draw):
    """The same, told to stop."""
    signals = [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT]
    return interrupted(folder, draw, lambda out: words("pretrain", out, *STEPS), folder / "whole", signals)


def distillation(folder, draw):
    """Distillation, killed."""
    teacher = folder / "teacher"
    require(finish(words("pretrain", teacher, *STEPS))[0] == 0, "no teacher")
    return interrupted(
        folder, draw, lambda out: words("distill", out, "--teacher", teacher, *STUDENTS), folder / "whole",
        [signal.SIGKILL],
    )  # fmt: skip


def preparation(folder, draw):
    """`prepare`, killed."""

    def argv(out):
        return ["prepare", "synthetic", "--clips-per-class", "12", "--out", str(out)]

    require(finish(argv(folder / "whole"))[0] == 0, "not prepared")
    while True:
        out = folder / f"data{draw.getrandbits(40)}"
        while not out.exists():
            process = start(argv(out))
            process.join(draw.random() * 3)
            process.kill()
            process.join()
            require("Traceback" not in process.errors.read_text(), process.errors.read_text()[-2000:])
            yield
        require(contents(out) == contents(folder / "whole"), "another dataset")


def damaged_checkpoints(folder, draw):
    """A bit flipped, bytes zeroed, an end cut off."""
    run = folder / "run"
    require(finish(words("pretrain", run, *STEPS))[0] == 0, "no run")
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
            content[place:end] = draw.choice(
                (
                    b"\xff" * 8,
                    bytes(8),
                    b"-1",
                    b"1e999",
                    b"nan",
                    b"[[[[",
                    b"\x1b[2J",
                    b"99999999999",
                    b"PK\5\6",
                )
            )
    return bytes(content)


def hostile(parse, samples):
    """Mutated bytes given to a reader: what it is for, or one ValueError, in bounded time."""

    def tries(folder, draw):
        while True:
            content = mutated(draw.choice(samples), draw)
            signal.alarm(HANG)
            try:
                with contextlib.suppress(ValueError):
                    parse(content)
            finally:
                signal.alarm(0)
            yield

    return tries


def both_readers(content):
    """The C++ and the Python reader of .skeleton answer alike."""
    answers = []
    for read in (parse_skeleton, parse_in_python):
        try:
            answers.append(read(content))
        except ValueError:
            answers.append(None)
    require((answers[0] is None) == (answers[1] is None), "the two readers differ")


def packed(content):
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        file.write(content)
        file.flush()
        for _ in PackedClips(file.name).clips():
            pass


def samples():
    """Small files that are right, one of each format."""
    clip = np.random.default_rng(0).normal(size=(4, 20, 3)).astype(np.float32)
    npz = io.BytesIO()
    np.savez_compressed(npz, x=np.tile(clip, (2, 1, 1)), len=np.array([4, 4]), y=np.array([0, 1]))
    with zipfile.ZipFile(ROOT / "tests" / "data" / "skeleton_corpus.zip") as archive:
        skeletons = [archive.read(name) for name in archive.namelist() if archive.getinfo(name).file_size]
    found = {"json": [json.dumps({"skeletons": clip.tolist()}).encode()], "npz": [npz.getvalue()]}
    with contextlib.suppress(ImportError):
        from scipy.io import savemat

        mat = io.BytesIO()
        savemat(mat, {"d_skel": clip.transpose(1, 2, 0).astype(float)}, do_compression=True)
        found["mat"] = [mat.getvalue()]
    return found | {"skeleton": skeletons}


def require(truth, said):
    if not truth:
        raise Lost(said)


def faults():
    """Name → (tries, share of the time)."""
    files = samples()
    readers = {"json": parse_json, "npz": packed, "mat": parse_mat, "skeleton": both_readers}
    return {
        "kill -9 of pretraining, both phases": (pretraining, 6),
        "kill -9 of distillation": (distillation, 3),
        "signals to pretraining": (signaled, 4),
        "kill -9 of prepare": (preparation, 2),
        "checkpoint with flipped, zeroed or missing bytes": (damaged_checkpoints, 1),
        **{f"hostile .{name}": (hostile(readers[name], files[name]), 1) for name in files},
    }


def torture(name, tries, seconds, draw):
    """Return how many tries there were and how many were lost, and say what was lost."""
    count = lost = 0
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        generator = tries(Path(folder), draw)
        while time.monotonic() < deadline:
            try:
                next(generator)
            except Exception:  # whatever it is, it was not to be
                sys.stderr.write(f"{name}: lost\n{traceback.format_exc()[-3000:]}\n")
                lost += 1
                folder_again = Path(folder) / f"again{lost}"
                folder_again.mkdir()
                generator = tries(folder_again, draw)
            count += 1
    return count, lost


def hangs(*_):
    raise Lost(f"no answer in {HANG} seconds")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    signal.signal(signal.SIGALRM, hangs)
    table = faults()
    shares = sum(share for _, share in table.values())
    sys.stdout.write(f"seed {options.seed}\n{'fault':50} {'tries':>9} {'survived':>9} {'lost':>6}\n")
    total = 0
    for name, (tries, share) in table.items():
        seconds = 60 * options.minutes * share / shares
        count, lost = torture(name, tries, seconds, random.Random(f"{options.seed} {name}"))
        sys.stdout.write(f"{name:50} {count:9} {count - lost:9} {lost:6}\n")
        sys.stdout.flush()
        total += lost
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
