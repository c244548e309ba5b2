"""What a training run tells: a live line on the terminal, metrics.jsonl, and what its loggers take."""

import json
import time
from itertools import count
from pathlib import Path
from typing import Any

from ikem_fast.files import write_text
from ikem_fast.progress import is_quiet, progress_bar
from ikem_fast.runtime.loggers import Loggers
from ikem_fast.train.budget import Progress
from ikem_fast.train.health import Report

METRICS = "metrics.jsonl"
QUIET = 10.0  # seconds between two lines where there is no terminal to keep one line on


class TrainingLog:
    """Collects the figures of each stretch of steps; use as a context manager.

    Args:
        out: folder for metrics.jsonl.
        title: in front of the progress bar.
        steps_an_epoch: batches of an epoch.
        done: steps done before. What metrics.jsonl holds of later ones (an interrupted run's) is dropped, and
            so are lines that are cut or damaged. The file of a run that is not gone on with is kept beside,
            as metrics-1.jsonl and so on.
        total: steps of the run; None where minutes alone end it.
        loggers: what takes the figures, too.
    """

    def __init__(
        self, out: Path, title: str, steps_an_epoch: int, done: int, total: int | None, loggers: Loggers
    ) -> None:
        self.title = title
        self.total = total
        self.path = out / METRICS
        if not done:
            _set_aside(self.path)
        kept = _lines_until(done, self.path, steps_an_epoch)
        write_text(self.path, "".join(f"{line}\n" for line in kept))
        self.loggers = loggers
        self.progress = progress_bar()
        self.task = self.progress.add_task(title, total=total, completed=done, status="")
        self.clips = 0
        self.told = -QUIET
        self.health = ""

    def __enter__(self) -> "TrainingLog":
        self.progress.start()
        return self

    def __exit__(self, *exception):
        self.progress.stop()
        self.loggers.close()

    def start(self, progress: Progress) -> None:
        """Begin to count clips and time of a stretch, at its first step."""
        self.epoch = progress.epoch
        self.clips = 0
        self.started = time.perf_counter()
        self.progress.update(
            self.task, description=f"{self.title}, epoch {self.epoch}", total=self._expected(progress)
        )

    def _expected(self, progress):
        """Steps of the run as far as it shows now: minutes may end it ahead of its steps."""
        by_share = round(progress.steps / progress.share) if progress.steps and progress.share else None
        return by_share if self.total is None else min(self.total, by_share or self.total)

    def step(self, clips: int) -> None:
        """Count a batch."""
        self.clips += clips
        self.progress.advance(self.task)

    def end(
        self,
        progress: Progress,
        phase: str,
        learning_rate: float,
        losses: dict[str, float],
        health: Report | None = None,
        gradient_norm: float | None = None,
    ) -> None:
        """Write and show the figures of a stretch of steps within one epoch and phase.

        Args:
            progress: behind its last step.
            phase, learning_rate: of its last step.
            losses: name → mean over its clips.
            health: a look at its end, if there was one.
            gradient_norm: mean over its clips of the norms of the steps' gradients.
        """
        seconds = time.perf_counter() - self.started
        speed = self.clips / seconds
        record: dict[str, Any] = {
            "epoch": self.epoch,
            "step": progress.steps,
            "phase": phase,
            "lr": learning_rate,
            "loss": sum(losses.values()),
            "losses": losses,
            "clips_per_second": round(speed, 2),
            "seconds": round(seconds, 3),
        }
        if gradient_norm is not None:
            record["gradient_norm"] = gradient_norm
        if health is not None:
            record["health"] = health.figures
        if health is not None and health.warnings:
            record["warnings"] = list(health.warnings)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        scalars = {f"loss/{name}": loss for name, loss in losses.items()}
        scalars |= {"loss/sum": record["loss"], "lr": learning_rate, "clips_per_second": speed}
        scalars |= {} if gradient_norm is None else {"gradient_norm": gradient_norm}
        for name, figures in (health.figures if health is not None else {}).items():
            scalars |= {f"{figure}/{name}": value for figure, value in figures.items() if value is not None}
        self.loggers.scalars(scalars, progress.steps)
        self.health = health.summary() if health is not None else self.health
        self._tell(progress, f"{phase}  loss {record['loss']:.3f} {self.health}  {speed:.0f} clips/s")
        for warning in record.get("warnings", ()):
            self.progress.console.print(f"warning: {warning}", style="red", highlight=False, soft_wrap=True)

    def _tell(self, progress, status):
        total = progress.steps if progress.over else self._expected(progress)
        self.progress.update(self.task, status=status, total=total)
        now = time.monotonic()
        if is_quiet() or self.progress.console.is_terminal:
            return
        if progress.over or now - self.told >= QUIET:
            self.told = now
            done = f"step {progress.steps}" + (f"/{self.total}" if self.total else "")
            self.progress.console.print(
                f"{self.title}, epoch {self.epoch}, {done}  {status}", highlight=False, soft_wrap=True
            )


def _set_aside(path):
    """Give a file with something in it the next free name, for what begins is another run."""
    if path.is_file() and path.stat().st_size:
        number = next(n for n in count(1) if not path.with_stem(f"{path.stem}-{n}").exists())
        path.rename(path.with_stem(f"{path.stem}-{number}"))


def _lines_until(done, path, steps_an_epoch):
    """Lines of metrics.jsonl about the steps done; a line that a crash or a full disk cut is none.

    Version 1 counted epochs alone.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        epoch = record.get("epoch") if isinstance(record, dict) else None
        if isinstance(epoch, int):
            step = record.get("step", epoch * steps_an_epoch)
            if isinstance(step, int) and step <= done:
                yield line


class Silence:
    """The log of a process that is not the first: it says nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def start(self, progress):
        pass

    def step(self, clips):
        pass

    def end(self, progress, phase, learning_rate, losses, health=None, gradient_norm=None):
        pass
