"""Several processes of one run: killed, stopped or slow, and begun again by torchrun."""

import os
import signal
import subprocess
import sys
import time

from ikem_fast.train import load_checkpoint
from tests.faults.ranks import joining
from tests.faults.runs import ROOT, records, scalars, start, wait_for, words
from tools.torture.common import require, within

RESTARTS = 1
ENDED = 60  # seconds in which the others have to end


def broken(folder, draw):
    """Of two to four processes one is killed, stopped, or told to stop."""
    while True:
        for size in (2, 3, 4):
            for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):
                out = folder / f"{draw.getrandbits(40)}" / "run"
                out.parent.mkdir()
                argv = words("pretrain", out, "--max-minutes", 10, "--exchange-from", "null", "--patience", 9,
                             "--checkpoint-steps", 1, "--batch-size", 4)  # fmt: skip
                group = [start(argv, before, f"errors{r}.txt") for r, before in enumerate(joining(size))]
                victim = draw.randrange(1, size)
                try:
                    wait_for(group[0], out, 2)
                    os.kill(group[victim].pid, number)
                    for rank, process in enumerate(group):
                        if rank != victim or number == signal.SIGTERM:
                            within(ENDED, process)
                            said = process.errors.read_text()
                            expected = 75 if number == signal.SIGTERM else 2
                            require(process.exitcode == expected and "Traceback" not in said, said[-1500:])
                    said = group[0].errors.read_text()
                    require(
                        number == signal.SIGTERM or f"from process {victim} of {size}" in said, said[-800:]
                    )
                finally:
                    for process in group:
                        process.kill()
                        process.join()
                yield


def elastic(folder, draw):
    """Of two to four processes of torchrun one is killed: all begin again from the last checkpoint."""
    for size in (2, 3, 4):
        here = folder / f"{size}"
        here.mkdir()
        out, whole = here / "run", here / "whole"
        steps = ("--max-steps", 60, "--exchange-from", 8, "--checkpoint-steps", 2, "--batch-size", 4)
        said = _torchrun(size, words("pretrain", whole, *steps), 0).communicate(timeout=300)[0]
        require((whole / "checkpoint.pt").exists(), f"no run: {said[-1500:]}")
        agent = _torchrun(size, words("pretrain", out, *steps), RESTARTS)
        while agent.poll() is None and not (out / "metrics.jsonl").exists():
            time.sleep(0.05)
        time.sleep(draw.random() * 2)
        victims = _children(agent.pid)
        if victims:
            os.kill(draw.choice(victims), signal.SIGKILL)
        said = agent.communicate(timeout=300)[0]
        require(agent.returncode == 0, f"{size} processes: {said[-2000:]}")
        steps_told = [record["step"] for record in records(out)]
        require(steps_told == [record["step"] for record in records(whole)], f"{size}: steps {steps_told}")
        scalars(out)  # none is there twice
        found = _distance(whole, out)
        require(found < 1e-3, f"{size} processes: parameters differ by {found}")
        yield


def _torchrun(size, argv, restarts):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(size), "--max-restarts",
               str(restarts), "--master-port", "0", "--standalone", "-m", "ikem_fast", *argv]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def _distance(first, second):
    """How far parameters lie apart: sums over processes are rounded in another order after a stop."""
    models = [load_checkpoint(out)["model"] for out in (first, second)]
    return max(float((models[0][name] - models[1][name]).abs().max()) for name in models[0])


def _children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def different(folder, draw):
    """One of several processes has other settings or another dataset: all are refused at the start."""
    for size in (2, 3):
        for own in (("--lr", "0.5"), ("--seed", "7")):
            out = folder / f"{draw.getrandbits(40)}" / "run"
            out.parent.mkdir()
            argv = words(
                "pretrain",
                out,
                "--max-steps",
                4,
                "--batch-size",
                4,
                "--patience",
                20,
                "--exchange-from",
                "null",
            )
            group = [start([*argv, *(own if r == size - 1 else ())], before, f"errors{r}.txt")
                     for r, before in enumerate(joining(size))]  # fmt: skip
            for process in group:
                within(ENDED, process)
                said = process.errors.read_text()
                require(
                    process.exitcode == 2 and f"process {size - 1}: expected what process 0 has" in said, said
                )
            require(not (out / "metrics.jsonl").exists(), "something was written")
            yield
