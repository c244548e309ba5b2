"""kill -9 and signals, of training, of checkpoints being written, and of the preparation of every format."""

import os
import signal
from functools import partial

from ikem_fast.data import FORMATS, writer
from tests.faults.dying import dying
from tests.faults.formats import prepare_words, sources
from tests.faults.runs import finish, start, words
from tests.helpers import contents
from tools.torture.common import SPAN, broken_off, distillation, killed, pretraining, require

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)
WRITES = ("--max-steps", 12, "--exchange-from", 3, "--checkpoint-steps", 1, "--keep-every", 4, "--keep-best",
          "true")  # fmt: skip


def of_pretraining(folder, draw):
    """Runs through both phases, killed at random moments."""
    return broken_off(folder, draw, pretraining, lambda: (None, lambda process: process.kill()), (killed(),))


def of_distillation(folder, draw):
    """Distillation, likewise."""
    argv = distillation(folder)
    return broken_off(folder, draw, argv, lambda: (None, lambda process: process.kill()), (killed(),))


def while_writing(folder, draw):
    """Runs that write a checkpoint behind every step, killed where they touch a file."""

    def argv(out):
        return words("pretrain", out, *WRITES)

    def spoil():
        return dying(folder / "run", draw.randrange(4, 400)), None

    return broken_off(folder, draw, argv, spoil, (killed(),))


def told_to_stop(folder, draw):
    """Runs that are told to stop by a signal; while a process only begins, some of them end it at once."""

    def spoil():
        number = draw.choice(SIGNALS)
        return None, lambda process: os.kill(process.pid, number)

    return broken_off(folder, draw, pretraining, spoil, (75, 130, *map(killed, SIGNALS)))


def of_preparation(folder, draw):
    """`prepare` of each format in turn, killed where it touches a file or at a random moment."""
    names = [name for name, chosen in FORMATS.items() if chosen.read]
    for name in names:
        raw = sources(name, folder / name)
        whole = folder / name / "whole"
        status, said = finish(prepare_words(name, raw, whole))
        require(status == 0, said)
    while True:
        for name in [*names, "synthetic"]:
            yield from _killed_until_done(name, folder, draw)


def _killed_until_done(name, folder, draw):
    out = folder / name / f"out{draw.getrandbits(40)}"
    if name == "synthetic":
        (folder / name).mkdir(exist_ok=True)
    made = partial(_synthetic if name == "synthetic" else prepare_words, name, folder / name / "raw")
    for _ in range(6):
        process = start(made(out), partial(_often, dying(out, draw.randrange(40))))
        if name == "synthetic":  # it takes longer: at a random moment
            process.join(draw.random() * SPAN)
            process.kill()
        process.join(120)
        said = process.errors.read_text()
        require("Traceback" not in said and process.exitcode in (0, killed()), said[-2000:])
        if process.exitcode == 0:
            break
        yield
    status, said = finish(made(out))
    require(status == 0, said[-2000:])
    whole = folder / name / "whole"
    if not whole.exists():
        require(finish(made(whole))[0] == 0, "not prepared")
    require(contents(out) == contents(whole), f"another dataset of {name}")


def _often(then):
    """A state is written behind every clip, not behind every 512th."""
    writer.CHECKPOINT_EVERY = 1
    then()


def _synthetic(name, _, out):
    return ["prepare", name, "--clips-per-class", "12", "--out", str(out)]
