"""The losses on a busy machine: cross + exchange, forward and backward, alone and beside two busy processes.

Each way runs in a process of its own, pinned to the same cores, and takes its turn; the busy processes are
pinned to those cores too and do nothing but spin. `--against PATH` adds the fused losses of another checkout
of this package, built there: what was, beside what is.
"""

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager

from benchmarks import show
from benchmarks.run import ROOT, summary
from benchmarks.subject import Subject
from ikem_fast.errors import InputError

SIZE = {"N": 128, "K": 32768}
SPINNERS = 2
QUIET, LOADED = "quiet", f"beside {SPINNERS} busy processes"
BEFORE = "fused, before"
ROUNDS, QUICK_ROUNDS = 9, 2
AGREEMENT = 1e-3


class Worker:
    """A process that times one way when asked to, with the package of some checkout.

    After its first step it says how large the gradients are, so that ways can be held to each other.
    """

    def __init__(self, way, package, cores, N, K):
        command = [sys.executable, ROOT / "benchmarks" / "worker.py"]
        task = {"way": way, "package": str(package), "cores": cores, "N": N, "K": K}
        self.process = subprocess.Popen(
            [*command, json.dumps(task)], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.norms = self._answer()

    def seconds(self):
        """Of one more step."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process that measures ended with status {self.process.wait()}")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


SPIN = """
import os, sys
os.sched_setaffinity(0, {int(sys.argv[1])})
print(flush=True)
while True:
    pass
"""


@contextmanager
def busy(cores):
    """Two processes that do nothing but spin, pinned to the cores."""
    spinners = []
    try:
        for place in range(SPINNERS):
            command = [sys.executable, "-S", "-c", SPIN, str(cores[place % len(cores)])]
            spinners.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        for spinner in spinners:
            spinner.stdout.readline()  # it spins now
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
            spinner.stdout.close()


def measure(run, N=SIZE["N"], K=SIZE["K"]):
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("busy: expected Linux, where processes can be pinned to cores")
    cores = sorted(os.sched_getaffinity(0))[: run.settings.threads]
    ways = {"fused": ("fused", ROOT), "published": ("published", ROOT)}
    if run.settings.against:
        ways[BEFORE] = ("fused", run.settings.against.resolve())
    rounds = QUICK_ROUNDS if run.settings.quick else ROUNDS
    run.note(threads=len(cores))
    seconds = {(condition, name): [] for condition in (QUIET, LOADED) for name in ways}
    with ExitStack() as stack:
        workers = {}
        for name, (way, package) in ways.items():
            workers[name] = Worker(way, package, cores, N, K)
            stack.callback(workers[name].close)
        check_agreement(workers)
        for _ in range(rounds):
            for name, worker in workers.items():
                seconds[QUIET, name].append(worker.seconds())
            with busy(cores):
                for name, worker in workers.items():
                    seconds[LOADED, name].append(worker.seconds())
    for (condition, name), taken in seconds.items():
        run.record(condition=condition, way=name, N=N, K=K, **summary(taken))


def check_agreement(workers):
    exact = workers["published"].norms
    for name, worker in workers.items():
        for mine, theirs in zip(worker.norms, exact, strict=True):
            assert abs(mine - theirs) <= AGREEMENT * theirs, (
                f"{name}: gradients of {mine}, published {theirs}"
            )


def table(results):
    found = {(row["condition"], row["way"]): row for row in results.rows}
    rows = []
    for way in dict.fromkeys(row["way"] for row in results.rows):
        quiet, loaded = (found[condition, way] for condition in (QUIET, LOADED))
        ratios = (show.ratio(row, found[row["condition"], "published"]) for row in (quiet, loaded))
        slower = f"{show.median(loaded) / show.median(quiet):.2f}×"
        rows.append((way, show.spread(quiet), show.spread(loaded), slower, *ratios))
    return show.table(
        (
            "way", "quiet, ms (p10–p90)|", f"{LOADED}, ms (p10–p90)|", "loaded / quiet|",
            "published / this, quiet|", "published / this, loaded|",
        ),
        rows,
    )  # fmt: skip


def headline(results):
    found = {(row["condition"], row["way"]): show.median(row) for row in results.rows}
    quiet, loaded = (found[where, "published"] / found[where, "fused"] for where in (QUIET, LOADED))
    return f"The published formulation takes {quiet:.1f} times fused when quiet, {loaded:.1f} {LOADED}."


SUBJECT = Subject(
    devices=("cpu",),
    about="""The losses on a busy machine: cross + exchange, forward and backward, N = 128, K = 32768, D =
128, P = 6, alone and beside two processes that spin on the same cores. Each way has a process of its own and
takes its turn, quiet and loaded in alternation.""",
    measure=measure,
    show=table,
    headline=headline,
)
