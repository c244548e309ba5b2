"""The runner: times what a subject compares and keeps the figures, one short line of JSON a row."""

import contextlib
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median, quantiles

import torch

from benchmarks.subject import Results, Settings

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DIGITS = 4


class Run:
    """One run of a subject: what it records goes to a file beside the last results, which `keep` replaces.

    Each row is there as soon as it is measured (`unfinished`), for a run may be ended by a limit.

    settings: of the run. path: of the results file.
    """

    def __init__(self, settings: Settings, path: Path):
        torch.set_num_threads(settings.threads)
        torch.manual_seed(0)
        self.settings = settings
        self.device = settings.device
        self.path = path
        self.about = machine(settings.device)
        self.rows = []
        self.unfinished = path.with_suffix(".part")
        self.unfinished.unlink(missing_ok=True)
        self.began = time.monotonic()

    def note(self, **facts):
        """Say what holds for every row."""
        self.about |= facts

    def minutes(self):
        """Minutes since the run began."""
        return (time.monotonic() - self.began) / 60

    def record(self, **row):
        """Keep a row of figures, and print it."""
        self.rows.append(row)
        print(line_of(row), flush=True)
        self.unfinished.parent.mkdir(parents=True, exist_ok=True)
        with self.unfinished.open("a", encoding="utf-8") as file:
            file.writelines(
                line_of(line) + "\n" for line in ([self.about] if len(self.rows) == 1 else []) + [row]
            )
        return row

    def compare(self, ways, rounds, limit=float("inf"), *, clock=None, more=lambda way: {}, **labels):
        """Time every way (name → call) in turn, and record a row for each; returns the rows.

        On a GPU every time is the replay of a CUDA graph with the cache flushed before it, unless a clock is
        given. more: way → further figures of its row. labels: what the rows are of.
        """
        if self.device == "cuda" and clock is None:
            seconds = {way: on_gpu(call) for way, call in ways.items()}
        else:
            seconds = in_turn(ways, rounds, limit, clock or time.perf_counter)
        return [self.record(**labels, way=way, **summary(seconds[way]), **more(way)) for way in ways]

    def keep(self):
        """Write the results file, whole or not at all."""
        from ikem_fast.files import write_text  # not above: packages that `worker.py` times may lack it

        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, "".join(line_of(row) + "\n" for row in (self.about, *self.rows)))
        self.unfinished.unlink(missing_ok=True)


def line_of(row):
    """A row as a line of JSON; measured numbers have four digits, which is more than they are worth."""
    return json.dumps({key: _short(value) for key, value in row.items()}, ensure_ascii=False)


def _short(value):
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    return [_short(each) for each in value] if isinstance(value, list | tuple) else value


def read_results(path):
    """The `Results` in a file that `Run.keep` wrote."""
    about, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return Results(about, rows)


def in_turn(runs, rounds, limit=float("inf"), clock=time.perf_counter):
    """{name: seconds of each round}: one run of each a round, so that a busy machine slows all alike.

    No round begins when `limit` seconds have passed since the first.
    """
    seconds = {name: [] for name in runs}
    for run in runs.values():
        run()
    began = time.perf_counter()
    for done in range(rounds):
        if done and time.perf_counter() - began > limit:
            break
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def on_gpu(run, rounds=50):
    """Seconds of each replay of a CUDA graph of `run`, the cache flushed before each."""
    flush = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for start, end in events:
        flush.zero_()
        start.record()
        graph.replay()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) / 1e3 for start, end in events]


def summary(seconds):
    """{"s": [10th percentile, median, 90th percentile], "rounds": how many}."""
    tenths = quantiles(seconds, n=10, method="inclusive") if len(seconds) > 1 else seconds * 9
    return {"s": [tenths[0], median(seconds), tenths[-1]], "rounds": len(seconds)}


def resident(field):
    """Bytes of this process in memory: now (VmRSS) or at the highest point (VmHWM)."""
    line = next(line for line in _lines("/proc/self/status") if line.startswith(field))
    return int(line.split()[1]) * 1024


def forget_peak():
    """Have Linux forget the highest point of memory so far; ru_maxrss would be inherited from the parent."""
    Path("/proc/self/clear_refs").write_text("5")


def machine(device):
    """What a figure depends on besides the code, and the code's commit."""
    cpu = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    found = {
        "cpu": cpu[0].split(":")[1].strip() if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--untracked-files=no")),
    }
    with contextlib.suppress(ImportError):
        import triton

        found["triton"] = triton.__version__
    return found


def _lines(path):
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def _git(*arguments):
    run = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 else None
