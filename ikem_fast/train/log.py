"""What a training run tells: a live line on the terminal, metrics.jsonl and TensorBoard scalars."""

import json
import time
from pathlib import Path

from ikem_fast.files import write_text
from ikem_fast.progress import progress_bar

METRICS = "metrics.jsonl"


class TrainingLog:
    """Collects each epoch's figures; use as a context manager.

    Args:
        out: folder for metrics.jsonl and TensorBoard's event file.
        title: in front of the progress bar.
        steps: steps in an epoch.
        first_epoch, epochs: the run goes from one to the other, both included. What metrics.jsonl holds from
            first_epoch on (an interrupted run's) is dropped, and so are lines that are cut or damaged.
    """

    def __init__(self, out: Path, title: str, steps: int, first_epoch: int, epochs: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.title = title
        self.steps = steps
        self.epochs = epochs
        self.path = out / METRICS
        write_text(self.path, "".join(f"{line}\n" for line in _epochs_before(first_epoch, self.path)))
        self.tensorboard = SummaryWriter(str(out), purge_step=first_epoch)
        self.progress = progress_bar()
        self.task = self.progress.add_task(title, total=steps * max(0, epochs - first_epoch + 1), status="")
        self.clips = 0

    def __enter__(self) -> "TrainingLog":
        self.progress.start()
        return self

    def __exit__(self, *exception):
        self.progress.stop()
        self.tensorboard.close()

    def start_epoch(self, epoch: int) -> None:
        """Begin to count clips and time."""
        self.epoch = epoch
        self.clips = 0
        self.started = time.perf_counter()
        self.progress.update(self.task, description=f"{self.title} {epoch}/{self.epochs}")

    def step(self, clips: int) -> None:
        """Count a batch."""
        self.clips += clips
        self.progress.advance(self.task)

    def end_epoch(self, phase: str, learning_rate: float, losses: dict[str, float]) -> None:
        """Write and show the epoch's figures; losses: name → the epoch's mean."""
        seconds = time.perf_counter() - self.started
        speed = self.clips / seconds
        record = {
            "epoch": self.epoch,
            "phase": phase,
            "lr": learning_rate,
            "loss": sum(losses.values()),
            "losses": losses,
            "clips_per_second": round(speed, 2),
            "seconds": round(seconds, 3),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        for name, loss in losses.items():
            self.tensorboard.add_scalar(f"loss/{name}", loss, self.epoch)
        self.tensorboard.add_scalar("loss/sum", record["loss"], self.epoch)
        self.tensorboard.add_scalar("lr", learning_rate, self.epoch)
        self.tensorboard.add_scalar("clips_per_second", speed, self.epoch)
        status = f"{phase}  loss {record['loss']:.3f}  {speed:.0f} clips/s"
        self.progress.update(self.task, status=status)
        if not self.progress.console.is_terminal:
            self.progress.console.print(f"{self.title} {self.epoch}/{self.epochs}  {status}", highlight=False)


def _epochs_before(first_epoch, path):
    """Lines of metrics.jsonl about earlier epochs; a line that a crash or a full disk cut is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        epoch = record.get("epoch") if isinstance(record, dict) else None
        if isinstance(epoch, int) and epoch < first_epoch:
            yield line


class Silence:
    """The log of a process that is not the first: it says nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def start_epoch(self, epoch):
        pass

    def step(self, clips):
        pass

    def end_epoch(self, phase, learning_rate, losses):
        pass
