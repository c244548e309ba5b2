"""When a run's state is written, what is never written, and which checkpoints stay."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ikem_fast.data import Dataset
from ikem_fast.errors import InputError
from ikem_fast.files import give_name, require_space
from ikem_fast.runtime.checkpoint import NAME, save_checkpoint
from ikem_fast.runtime.rotation import BEST, Rotation
from ikem_fast.train.budget import Progress
from ikem_fast.train.config import TrainConfig
from ikem_fast.train.resume import Standing, described
from ikem_fast.train.step import Step
from ikem_fast.train.task import Task


class Keeper:
    """Writes checkpoints, seldom enough that training does not wait for the disk, and never bad ones.

    Args:
        task, config, dataset, step: of the run.
        standing: where it goes on from.
    """

    def __init__(
        self, task: Task, config: TrainConfig, dataset: Dataset, step: Step, standing: Standing
    ) -> None:
        self.folder = Path(config.out)
        self.task, self.config, self.step = task, config, step
        self.origin = described(dataset)
        self.kept = standing.steps  # steps in the checkpoint on disk
        self.rotation = Rotation(
            self.folder, last=config.keep_last, every=config.keep_every, newest=standing.newest
        )
        self.best: tuple[str, float] | None = standing.unfinished.get("best")
        self.improved = False
        self.when = time.monotonic()

    def check_losses(self, began: Progress, losses: dict[str, float]) -> None:
        """Raise InputError where one is not a finite number."""
        self._refuse(
            began,
            [f"a loss of {name} that is {loss}" for name, loss in losses.items() if not np.isfinite(loss)],
        )

    def follow(self, phase: str, losses: dict[str, float]) -> None:
        """Take note of the losses of a stretch of steps: whether they are the lowest of their phase."""
        loss = sum(losses.values())
        if self.config.keep_best and (self.best is None or self.best[0] != phase or loss < self.best[1]):
            self.best, self.improved = (phase, loss), True

    def due(self, steps: int) -> bool:
        """Tell whether it is time for a checkpoint, `steps` steps from the beginning."""
        after = self.config.checkpoint_steps
        return (
            self.improved
            or (after is not None and steps - self.kept >= after)
            or time.monotonic() - self.when >= 60 * self.config.checkpoint_minutes
        )

    def check_space(self) -> None:
        """Raise InputError where the disk has too little room for a checkpoint."""
        optimizer = self.step.optimizer
        state = [value for one in optimizer.state.values() for value in one.values()]
        if not state:  # it comes with the first step: two moments of AdamW, one of SGD
            trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = trained * (2 if "betas" in optimizer.defaults else 1)
        tensors = [*self.task.model.state_dict().values(), *state]
        size = sum(one.numel() * one.element_size() for one in tensors if isinstance(one, torch.Tensor))
        require_space(self.folder, size, "a checkpoint, beside the one that it replaces")

    def keep(self, began: Progress, progress: Progress, seconds: float, unfinished: dict[str, Any]) -> None:
        """Write a checkpoint, if there is none of this step.

        Args:
            began: the beginning of the present stretch, for messages.
            progress: where the run stands.
            seconds: used for training.
            unfinished: see `save_checkpoint`.

        Raises InputError where a weight, a statistic or a key is not a finite number, OSError where the
        folder cannot be written to.
        """
        if self.kept == progress.steps:
            return
        self._check_numbers(began)
        try:
            self.check_space()
        except InputError as error:
            raise InputError(f"{error}; {self.standing()}, --resume auto goes on") from None
        self.rotation.make_room(progress.steps)
        save_checkpoint(
            self.folder / NAME,
            kind=self.task.kind,
            config=self.config,
            model_config=self.task.model_config,
            dataset=self.origin,
            epoch=progress.epoch - 1,
            step=progress.steps,
            seconds=seconds,
            model=self.task.model,
            optimizer=self.step.optimizer,
            unfinished={**unfinished, "best": self.best},
        )
        self.rotation.tidy()
        if self.improved:
            give_name(self.folder / NAME, self.folder / BEST)
        self.kept, self.when, self.improved = progress.steps, time.monotonic(), False

    def standing(self) -> str:
        """Say which checkpoint there is."""
        return f"the checkpoint of step {self.kept} is kept" if self.kept else "there is no checkpoint yet"

    def _check_numbers(self, began):
        numbers = {n: value for n, value in self.task.model.state_dict().items() if value.is_floating_point()}
        for state in self.step.optimizer.state.values():
            for name, value in state.items():
                if isinstance(value, torch.Tensor) and value.dim():
                    numbers[f"{name} {len(numbers)}"] = value
        finite = torch.stack([value.isfinite().all() for value in numbers.values()]).tolist()
        self._refuse(
            began, [f"{name} not finite" for name, good in zip(numbers, finite, strict=True) if not good][:3]
        )

    def _refuse(self, began, spoiled):
        if spoiled:
            raise InputError(
                f"{self.folder}: expected finite numbers, found {', '.join(spoiled)} in epoch "
                f"{began.epoch}; {self.standing()}: begin again with a smaller --lr, and look for clips that "
                "are not finite"
            )
