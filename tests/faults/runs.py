"""Runs that tests of faults kill, stop and starve; tiny, each in a process of its own, the same each time."""

import faulthandler
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import torch
import torch._dynamo  # what runs import on their way, each process anew
import torch.utils.tensorboard

from ikem_fast.cli import main
from ikem_fast.train import ModelConfig, PretrainConfig, load_checkpoint
from tests.helpers import ONE_BLOCK

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "tests" / "version1" / "data"
SMALL = ModelConfig(
    feature_dim=4, queue_size=8, hidden_channels=2, dropout=0.2, modalities=("joint", "motion"),
    encoder=ONE_BLOCK,
)  # fmt: skip
MODEL = """
    --model.feature-dim 4 --model.queue-size 8 --model.hidden-channels 2 --model.dropout 0.2
    --model.modalities [joint,motion] --model.encoder.name tcn
    --model.encoder.sizes {"blocks":1,"segments":1}
"""
TIMES = ("seconds", "clips_per_second")  # of a record: what a clock says


def words(kind, out, *more, data=TINY):
    """Words of the command line for a run without a recipe."""
    bare = out.parent / f"{kind}.yaml"
    bare.write_text(f"{kind}: {{}}")
    model = MODEL.split() if kind == "pretrain" else []
    return [
        kind, "--config", str(bare), "--data", str(data), "--out", str(out), "--batch-size", "2",
        "--lr", "0.002", "--device", "cpu", "--resume", "auto", *model, *map(str, more),
    ]  # fmt: skip


def settings(out, **changes):
    """The same for a run in this process."""
    return PretrainConfig(
        **{"data": TINY, "out": out, "batch_size": 2, "lr": 0.01, "device": "cpu", "model": SMALL,
           "exchange_from": None, **changes}
    )  # fmt: skip


def start(argv, before=None, name="errors.txt"):
    """Run the command line in a process of its own, which has imported everything; its errors go to a file.

    before: called there ahead of it. name: of the file.
    """
    errors = Path(argv[argv.index("--out") + 1]).parent / name
    process = multiprocessing.get_context("fork").Process(target=_run, args=(argv, errors, before))
    process.errors = errors
    process.start()
    return process


def _run(argv, errors, before):
    with errors.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
    torch.set_num_threads(1)
    faulthandler.disable()  # which pytest enables, and a command line does not have
    threading.excepthook = threading.__excepthook__  # pytest has one of its own
    for number in (signal.SIGINT, signal.SIGHUP):  # which tests in the background of a shell are deaf to
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    if before is not None:
        before()
    os._exit(main(argv))


def finish(argv, before=None):
    """Run to the end; returns the exit status and what was said."""
    process = start(argv, before)
    process.join(300)
    return process.exitcode, process.errors.read_text()


def wait_for(process, out, lines, name="metrics.jsonl"):
    """Return when a file of the run has so many lines, or the run is over."""
    while process.is_alive():
        with suppress(FileNotFoundError):  # the run may set an older run's file aside at any moment
            if (out / name).read_bytes().count(b"\n") >= lines:
                return
        time.sleep(0.005)


def records(out):
    lines = (out / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def scalars(out):
    """(tag, step) → value of the TensorBoard scalars, as TensorBoard shows them, less those of the clock."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out), size_guidance={"scalars": 0})
    events.Reload()
    found = [
        ((tag, event.step), event.value)
        for tag in events.Tags()["scalars"]
        if tag not in TIMES
        for event in events.Scalars(tag)
    ]
    assert len(found) == len(dict(found)), "a scalar twice"
    return dict(found)


def differences(first, second):
    """What two runs differ in, of checkpoint, metrics and scalars: nothing, if one was only interrupted."""
    states = [load_checkpoint(out) for out in (first, second)]
    found = [name for name in ("epoch", "step") if states[0][name] != states[1][name]]
    for part in ("model", "optimizer", "unfinished"):
        flat = [dict(flattened(state[part])) for state in states]
        found += [f"{part} {name}" for name in flat[0] if not alike(flat[0][name], flat[1].get(name))]
    found += [] if records(first) == records(second) else ["metrics.jsonl"]
    return found + ([] if scalars(first) == scalars(second) else ["TensorBoard"])


def alike(first, second):
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    return first == second


def flattened(value, name=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flattened(item, f"{name}.{key}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from flattened(item, f"{name}[{place}]")
    else:
        yield name, value
