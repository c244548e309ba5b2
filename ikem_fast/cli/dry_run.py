"""`--dry-run`: what a training would take, by a few steps of it in a folder that goes again."""

import contextlib
import io
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

STEPS = 3  # that are timed in each phase, after a first that warms up


def dry_run(command: Any, config: Any) -> None:
    """Say how many steps a training takes, and how much memory and time, as far as this machine shows now.

    Each phase is trained for a few steps on the run's own data and settings, in a folder of its own; what is
    at `out` is not touched.

    Args:
        command: `pretrain` or `distill`.
        config: its settings.

    Raises what the training itself would raise at once: InputError for a dataset or setting that cannot be
    used.
    """
    from ikem_fast.data import open_dataset
    from ikem_fast.settings import check

    check(config)
    clips = len(open_dataset(config.data)["train"])
    whole = config.leaves_out_last(clips)
    an_epoch = max(1, clips // config.batch_size if whole else -(-clips // config.batch_size))
    total = config.total_steps(an_epoch)
    phases = _phases(command, config, an_epoch, total)
    out = sys.stdout
    out.write(f"{clips} training clips, {an_epoch} steps an epoch\n")
    minutes = 0.0
    for name, steps, settings in phases:
        seconds = _seconds_a_step(command, config, settings)
        minutes += (steps or 0) * seconds / 60
        count = "as many steps as there are minutes for" if steps is None else f"{steps} steps"
        out.write(f"{name}: {count}, {seconds:.2f} s each\n")
        out.flush()
    if total is None:
        out.write(f"minutes: {config.max_minutes:g}, which is the budget\n")
    else:
        capped = min(minutes, config.max_minutes or minutes)
        out.write(f"minutes: about {capped:.1f}" + (", the budget\n" if capped < minutes else "\n"))
    out.write(f"memory: {_memory()}\n")


def _phases(command, config, an_epoch, total):
    """(name, steps or None, settings that have it from the first step on)."""
    if command.name != "pretrain":
        return [("distillation", total, {})]
    start = config.exchange_from
    alone = {"exchange_from": None}
    if start is None or config.method == "skeletonclr":
        return [("phase 1", total, alone)]
    both = {"exchange_from": 1}
    if total is None:
        return [("phase 1", None, alone), ("phase 2", None, both)]
    before = min(total, int(start * total) if start < 1 else int(start - 1) * an_epoch)
    phases = [("phase 1", before, alone), ("phase 2", total - before, both)]
    return [phase for phase in phases if phase[1]]


def _seconds_a_step(command, config, settings):
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        took = []
        for steps in (1, 1 + STEPS):
            budget = {"epochs": None, "max_steps": steps, "max_minutes": None, "resume": False}
            tried = replace(config, out=Path(folder) / str(steps), **budget, **settings)
            began = time.perf_counter()
            command.run(tried)
            took.append(time.perf_counter() - began)
    return max(took[1] - took[0], 0.0) / STEPS


def _memory():
    import torch

    parts = []
    with contextlib.suppress(ImportError):  # Windows has none
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        parts.append(f"{peak / (2**30 if sys.platform == 'darwin' else 2**20):.1f} GiB of this process")
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        parts.append(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU")
    return ", ".join(parts) or "not known here"
