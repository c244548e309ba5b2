"""The day that a GPU is there: stages, each with a folder, a limit and figures of its own, and a first page.

`bash benchmarks/run_on_gpu.sh` runs them, the most telling first. A stage that ended well is not run again,
one that failed or met its limit is. The page says what holds of what was predicted (`benchmarks/judge.py`),
and is written anew after each stage. `--rehearse` goes the same way on a CPU, with sizes that say nothing of
speed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.run import ROOT
from ikem_fast.files import write_text

DONE, LOG, PAGE = "done.json", "log.txt", "README.md"
TAIL = 15  # lines of a log that are shown


@dataclass(frozen=True)
class Stage:
    """One line of the table of stages.

    Args:
        about: what it shows, in a few words.
        minutes: after which it is ended.
        commands: (folder, rehearse) → what is run, one after the other, each the arguments of a Python.
        variables: folder → what is in the environment besides.
    """

    about: str
    minutes: float
    commands: Callable[[Path, bool], list[list]]
    variables: Callable[[Path], dict] = lambda folder: {}


def build(folder, rehearse):
    compiled = [] if rehearse else [["setup.py", "build_ext", "--inplace"]]
    return [*compiled, ["-m", "ikem_fast", "doctor", *(["--quick"] if rehearse else [])]]


def tests(folder, rehearse):
    where = ["tests/cuda/test_training_cuda.py"] if rehearse else ["tests"]
    return [["-m", "pytest", *where, "-m", "cuda", "-q", f"--junit-xml={folder / 'tests.xml'}"]]


def subjects(*names):
    """Commands of a stage that measures subjects, a process each."""

    def commands(folder, rehearse):
        size = ["--tiny", "--threads", "1"] if rehearse else ["--quick", "--device", "cuda"]
        return [["-m", "benchmarks", name, *size, "--out", folder] for name in names]

    return commands


def grid(folder, rehearse):
    names = ["evaluation"] if rehearse else ["losses", "step", "evaluation"]
    size = ["--tiny", "--threads", "1"] if rehearse else ["--device", "cuda"]
    return [["-m", "benchmarks", name, *size, "--out", folder] for name in names]


def training(folder, rehearse):
    """A minute of the plainest step and four of the fastest; simulated people, in phase 2 from 30% on."""
    data, config = folder / "data", folder / "training.yaml"
    ways = {"plain": [], "fast": ["--cuda-graph", "true"]}
    given = {"batch_size": 128, "amp": True, "exchange_from": 0.3, "device": "cuda", "loggers": []}
    given["model"] = {"queue_size": 32768, "momentum": 0.999}
    budget = {"plain": ["--max-minutes", 1], "fast": ["--max-minutes", 4]}
    if rehearse:
        ways = {"plain": []}
        given |= {"batch_size": 6, "device": "cpu", "amp": False}
        given["model"] = {
            "queue_size": 16,
            "hidden_channels": 4,
            "hidden_dim": 12,
            "modalities": ["joint", "bone"],
        }
        budget = {"plain": ["--max-steps", 3]}
    folder.mkdir(parents=True, exist_ok=True)
    write_text(config, json.dumps({"pretrain": given}) + "\n")  # which is YAML, too
    clips = ["--clips-per-class", 3 if rehearse else 300]
    prepare = [] if data.is_dir() else [["-m", "ikem_fast", "prepare", "synthetic", "--out", data, *clips]]
    runs = ["--config", config, "--data", data, "--resume", "auto"]
    return prepare + [
        ["-m", "ikem_fast", "pretrain", *runs, "--out", folder / way, *budget[way], *options]
        for way, options in ways.items()
    ]


def tuned(folder):
    """Tiles are timed, and kept in the stage's folder."""
    return {"IKEM_AUTOTUNE": "1", "XDG_CACHE_HOME": str(folder)}


STAGES = {
    "build": Stage("the CUDA kernels compile, and every kernel is the reference", 5, build),
    "tests": Stage("what only a GPU can test", 5, tests),
    "kernels": Stage("losses and derivation beside what was predicted", 4, subjects("kernels", "derivation")),
    "step": Stage("a whole step: plain, compiled, as a CUDA graph", 6, subjects("step")),
    "training": Stage("five minutes of simulated clips of NTU's shape", 9, training),
    "autotune": Stage("whether other tiles are faster", 5, subjects("kernels"), tuned),
    "grid": Stage("all sizes, for the pages", 15, grid),
}


def run(name, out, rehearse):
    """Run a stage that has not ended well yet; whether it has now."""
    stage, folder = STAGES[name], out / name
    if ended_well(folder):
        print(f"== {name}: done before ({folder / LOG})", flush=True)
        return True
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DONE).unlink(missing_ok=True)
    print(f"== {name}: {stage.about} (at most {stage.minutes:g} min)", flush=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | stage.variables(folder)
    began, problem = time.monotonic(), None
    with (folder / LOG).open("w", encoding="utf-8") as log:
        for arguments in stage.commands(folder, rehearse):
            left = 60 * stage.minutes - (time.monotonic() - began)
            problem = problem or command([sys.executable, *map(str, arguments)], environment, log, left)
    seconds = time.monotonic() - began
    print("".join((folder / LOG).read_text(encoding="utf-8").splitlines(keepends=True)[-TAIL:]), flush=True)
    outcome = {"ended_well": problem is None, "problem": problem, "seconds": round(seconds, 1)}
    write_text(folder / DONE, json.dumps(outcome | {"rehearsed": rehearse}) + "\n")
    return problem is None


def command(arguments, environment, log, seconds):
    """Run one and all that it starts, at most so long; None, or what went wrong."""
    log.write(f"$ {' '.join(arguments)}\n")
    log.flush()
    started = subprocess.Popen(
        arguments, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT, env=environment, start_new_session=True
    )
    try:
        status = started.wait(max(seconds, 0))
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()
        return f"ended at its limit: {' '.join(arguments[1:4])}"
    return None if status == 0 else f"status {status}: {' '.join(arguments[1:4])}"


def outcome(folder):
    """What `run` left: {"ended_well", "problem", "seconds", "rehearsed"}; {} before a stage has run."""
    done = folder / DONE
    return json.loads(done.read_text(encoding="utf-8")) if done.is_file() else {}


def ended_well(folder):
    return outcome(folder).get("ended_well", False)


def page(out):
    """Lines of the first page: claims, and how the stages ended."""
    from benchmarks import judge, show

    rehearsed = any(outcome(out / name).get("rehearsed") for name in STAGES)
    stages = []
    for name, stage in STAGES.items():
        found = outcome(out / name)
        how = "ended well" if found.get("ended_well") else found.get("problem") or "has not run"
        seconds = f"{found['seconds']:.0f}" if found else "–"
        stages.append((name, stage.about, f"{60 * stage.minutes:.0f}", seconds, how))
    claims = [(c.what, c.predicted, c.measured, c.verdict) for c in judge.claims(out)]
    return [
        "# What the GPU said",
        "",
        *(["Rehearsed on a CPU with sizes that say nothing of speed.", ""] if rehearsed else []),
        *show.table(("", "predicted|", "measured|", ""), claims),
        "",
        *show.table(("stage", "shows", "limit, s|", "took, s|", "how it ended"), stages),
        "",
        f"Logs: `STAGE/{LOG}`. `cp {out}/*/*-cuda.jsonl benchmarks/results` and"
        " `python -m benchmarks publish` make pages of the figures.",
    ]


def main(arguments=None):
    """Run stages, write the page, end with status 1 where one did not end well."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.day", description=__doc__)
    what = f"which, of {', '.join(STAGES)}; all if not given"
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=what)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu", help="folder of the results")
    parser.add_argument(
        "--rehearse", action="store_true", help="on a CPU, with sizes that say nothing of speed"
    )
    given = parser.parse_args(arguments)
    unknown = [name for name in given.stages if name not in STAGES]
    if unknown:
        parser.error(f"expected stages of {', '.join(STAGES)}, found {unknown[0]}")
    out, well = given.out.resolve(), True
    for name in given.stages or STAGES:
        well = run(name, out, given.rehearse) and well
        write_text(out / PAGE, "\n".join(page(out)) + "\n")
    print((out / PAGE).read_text(encoding="utf-8"))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
