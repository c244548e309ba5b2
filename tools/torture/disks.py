"""Disks that are full, broken or gone, and datasets that change under a command."""

import errno
import os
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

from ikem_fast.data import writer
from tests.faults.formats import prepare_words, sources
from tests.faults.runs import TINY, differences, finish, start, words
from tests.faults.seccomp import can_fail, fail
from tests.helpers import contents
from tools.torture.common import SPAN, STEPS, broken_off, pretraining, require

ERRORS = (errno.EIO, errno.EDQUOT, errno.ENOSPC, errno.EROFS)


def broken(folder, draw):
    """Runs whose writes and flushes fail from some moment on, for good."""
    if not can_fail():
        return iter(())

    def spoil():
        seconds, error = draw.random() * SPAN, draw.choice(ERRORS)
        calls = draw.choice((("write",), ("fsync",), ("write", "fsync", "writev"), ("ftruncate", "fsync")))
        return partial(_failing_later, seconds, calls, error), None

    return broken_off(folder, draw, pretraining, spoil, (2,))


def _failing_later(seconds, calls, error):
    timer = threading.Timer(seconds, fail, (calls, error))
    timer.daemon = True
    timer.start()


def full(folder, draw):
    """Runs on a disk that is too small, which go on in the same place when it is larger."""
    disk = folder / "disk"
    disk.mkdir()
    if os.name == "nt" or os.getuid():
        return
    require(finish(pretraining(folder / "whole"))[0] == 0, "no run")
    while True:
        size = draw.randrange(40, 700)
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], capture_output=True
        ).returncode:
            return
        try:
            status, said = finish(pretraining(disk / "run"))
            require(status in (0, 2) and "Traceback" not in said, f"{size} kB: {status} {said[-1500:]}")
            told = "No space left" in said or "free on its disk for a checkpoint" in said
            require(status == 0 or told, said)
            subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
            status, said = finish(pretraining(disk / "run"))
            require(status == 0, said)
            require(
                not (found := differences(folder / "whole", disk / "run")), f"{size} kB: differs in {found}"
            )
        finally:
            subprocess.run(["umount", disk], check=True)
        yield


def gone(folder, draw):
    """Folders that are taken away, or may not be written to, under a run; datasets cut, replaced, deleted."""
    ways = (_taken_away, _cut, _replaced, _deleted)
    whole = folder / "whole"
    require(finish(pretraining(whole))[0] == 0, "no run")
    while True:
        for way in ways:
            here = folder / f"{draw.getrandbits(40)}"
            here.mkdir()
            data = Path(shutil.copytree(TINY, here / "data"))
            out = here / "run"
            process = start(words("pretrain", out, *STEPS, data=data))
            process.join(draw.random() * SPAN)
            way(data, out)
            process.join(120)
            said = process.errors.read_text()
            require(
                process.exitcode in (0, 2) and "Traceback" not in said,
                f"{way}: {process.exitcode} {said[-1500:]}",
            )
            if way is not _taken_away and (out / "checkpoint.pt").exists():
                status, said = finish(pretraining(out))  # with the data as they were
                require(status == 0, said[-1500:])
                require(not (found := differences(whole, out)), f"{way}: differs in {found}")
            yield


def _taken_away(data, out):
    if out.exists():
        out.rename(out.with_name("elsewhere"))


def _cut(data, out):
    for path in data.glob("*.npy"):
        os.truncate(path, 10)


def _replaced(data, out):
    for path in data.glob("*_clips.npy"):
        beside = path.with_suffix(".new")
        beside.write_bytes(path.read_bytes()[::-1])
        beside.replace(path)


def _deleted(data, out):
    shutil.rmtree(data)


def of_preparation(folder, draw):
    """`prepare` whose writes fail, which goes on to the same dataset afterwards."""
    if not can_fail():
        return
    names = ("ntu", "nw-ucla", "npz", "agcn", "pyskl", "bvh")
    for name in names:
        raw = sources(name, folder / name)
        require(finish(prepare_words(name, raw, folder / name / "whole"))[0] == 0, "not prepared")
    while True:
        for name in names:
            out = folder / name / f"out{draw.getrandbits(40)}"
            words_of = prepare_words(name, folder / name / "raw", out)
            spoil = partial(
                _at_a_clip, draw.choice((("write",), ("fsync",), ("ftruncate",))), draw.choice(ERRORS)
            )
            status, said = finish(words_of, spoil)
            require(status in (0, 2) and "Traceback" not in said, f"{name}: {said[-1500:]}")
            status, said = finish(words_of)
            require(status == 0, f"{name}: {said[-1500:]}")
            require(contents(out) == contents(folder / name / "whole"), f"another dataset of {name}")
            yield


def _at_a_clip(calls, error):
    """Fail from the first clip on."""
    add = writer.DatasetWriter.add

    def failing(self, *clip):
        fail(calls, error)
        writer.DatasetWriter.add = add
        add(self, *clip)

    writer.CHECKPOINT_EVERY = 1
    writer.DatasetWriter.add = failing
