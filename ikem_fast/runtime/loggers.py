"""Where figures and pictures go beside the files of a run: TensorBoard, Weights & Biases, MLflow.

To add one: a class with the methods of `Logger` below, and a line in `LOGGERS`. Nothing is sent anywhere
unless a setting names it.
"""

import os
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ikem_fast.errors import InputError, printable
from ikem_fast.files import write_text

PROJECT = "ikem-fast"


class Logger(Protocol):
    """What takes figures and pictures of one run."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Take figures, by names such as loss/joint, of a step."""

    def picture(self, name: str, path: Path, step: int) -> None:
        """Take the PNG at `path`."""

    def close(self) -> None:
        """Hand over what is left, and end."""


class TensorBoard:
    """Event files in the run's folder. What an interrupted run said of later steps is dropped."""

    def __init__(self, out: Path, settings: Mapping[str, Any], done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        _mute_writers()
        self.writer = SummaryWriter(str(out), purge_step=done + 1)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, name: str, path: Path, step: int) -> None:
        import numpy as np
        from PIL import Image

        self.writer.add_image(name, np.asarray(Image.open(path).convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases; it goes on as the same one where the folder's run does.

    WANDB_PROJECT, WANDB_MODE=offline and its other variables mean what they always do.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], done: int) -> None:
        import wandb

        self.wandb = wandb
        known = _known(out / "wandb.id") if done else None
        again = {"id": known, "resume": "allow"} if known else {}
        self.run = wandb.init(
            project=_unless_set("WANDB_PROJECT", PROJECT), dir=str(out), name=out.name, config=dict(settings),
            **again,
        )  # fmt: skip
        write_text(out / "wandb.id", f"{self.run.id}\n")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        self.run.log({name: self.wandb.Image(str(path))}, step=step)

    def close(self) -> None:
        self.run.finish()


class Mlflow:
    """A run of MLflow; it goes on as the same one where the folder's run does.

    MLFLOW_TRACKING_URI and its other variables mean what they always do.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], done: int) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient()
        known = _known(out / "mlflow.id") if done else None
        name = _unless_set("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = self.client.get_experiment_by_name(name)
        where = experiment.experiment_id if experiment else self.client.create_experiment(name)
        self.id = known or self.client.create_run(where, run_name=out.name).info.run_id
        write_text(out / "mlflow.id", f"{self.id}\n")
        if not known:
            for key, value in _flat(settings):
                self.client.log_param(self.id, key, printable(value, 500))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.client.log_metric(self.id, name, value, step=step)

    def picture(self, name: str, path: Path, step: int) -> None:
        self.client.log_artifact(self.id, str(path), name)

    def close(self) -> None:
        self.client.set_terminated(self.id)


LOGGERS: dict[str, tuple[type, str]] = {  # name → what takes figures, the extra that it needs
    "tensorboard": (TensorBoard, "tensorboard"),
    "wandb": (WeightsAndBiases, "wandb"),
    "mlflow": (Mlflow, "mlflow"),
}


class Loggers:
    """Several loggers as one. One that fails once it is open is left out with a warning: a run is worth more.

    Args:
        names: of `LOGGERS`.
        out: folder of the run.
        settings: of the run, as plain values.
        done: steps done before, by a run that goes on.

    Raises InputError where what a logger needs is not installed, or it cannot be opened.

    Example:
        with Loggers(("tensorboard", "wandb"), out, settings) as loggers:
            loggers.scalars({"loss/joint": 3.5}, step=7)
    """

    def __init__(self, names: Sequence[str], out: Path, settings: Mapping[str, Any], done: int = 0) -> None:
        self.open: dict[str, Logger] = {}
        for name in names:
            kind, extra = LOGGERS[name]
            try:
                self.open[name] = kind(out, settings, done)
            except ImportError as error:
                self.close()
                raise InputError(
                    f"loggers: expected {name} to be installed, found: {error}; "
                    f"pip install 'ikem-fast[{extra}]', or leave it out"
                ) from None
            except Exception as error:  # whatever a service's client raises
                self.close()
                raise InputError(
                    f"loggers: {name} cannot be opened: {printable(error)}; see that it works by itself, or "
                    "leave it out"
                ) from None

    def __enter__(self) -> "Loggers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Hand figures, by name, of a step to each."""
        self._each("scalars", values, step)

    def picture(self, name: str, path: Path, step: int = 0) -> None:
        """Hand the PNG at `path` to each."""
        self._each("picture", name, path, step)

    def close(self) -> None:
        """End each."""
        self._each("close")
        self.open = {}

    def _each(self, method, *arguments):
        for name, logger in list(self.open.items()):
            try:
                getattr(logger, method)(*arguments)
            except Exception as error:
                del self.open[name]
                sys.stderr.write(
                    f"ikem-fast: warning: {name} takes no more figures, and the run goes on without it: "
                    f"{printable(error)}\n"
                )


class _PrintOthers:
    """Tells of exceptions in threads, those of TensorBoard writers aside: their next call raises them."""

    def __init__(self):
        self.print_failure = threading.excepthook

    def __call__(self, failure):
        if not type(failure.thread).__module__.startswith("tensorboard."):
            self.print_failure(failure)


def _mute_writers():
    if not isinstance(threading.excepthook, _PrintOthers):
        threading.excepthook = _PrintOthers()


def _known(path):
    """What was written down of a run that is gone on with."""
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def _unless_set(variable, value):
    return os.environ.get(variable) or value


def _flat(settings, prefix=""):
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
