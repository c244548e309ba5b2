"""Distillation of a pretrained model of many modalities into students of few."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ikem_fast.data import open_dataset
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError
from ikem_fast.nn import RelationalDistiller
from ikem_fast.nn.build import build_distiller
from ikem_fast.nn.config import ModelConfig
from ikem_fast.runtime.checkpoint import (
    check_fits,
    fitting,
    load_checkpoint,
    stored_bodies,
    stored_model_config,
)
from ikem_fast.runtime.processes import Processes, joined
from ikem_fast.settings import check
from ikem_fast.train.budget import Progress
from ikem_fast.train.config import DistillConfig
from ikem_fast.train.loop import fit
from ikem_fast.train.task import Batch, Gather, Seen, Task


def distill(config: DistillConfig) -> Path:
    """Train `nn.RelationalDistiller` on a prepared dataset.

    Args:
        config: the settings.

    Returns:
        The path of the checkpoint.

    Raises InputError for a teacher, dataset, folder, device or setting that cannot be used, before anything
    is written.

    Example:
        distill(DistillConfig(data="data/ntu60", teacher="runs/teacher", out="runs/student"))
    """
    check(config)
    dataset = open_dataset(config.data)
    state = load_checkpoint(config.teacher, kinds=("pretrain",))
    check_fits(state, config.teacher, config.data, dataset.skeleton, dataset.num_bodies)
    model_config = stored_model_config(state, config.teacher)
    missing = [name for name in config.students if name not in model_config.modalities]
    if config.initialize == "teacher" and missing:
        raise InputError(
            "initialize: expected students out of the teacher's modalities, "
            f"{', '.join(model_config.modalities)}, to start from, found {missing[0]!r}"
        )
    with joined(config.device, config.patience) as processes:
        torch.manual_seed(config.seed)
        with fitting(config.teacher):
            model = build_distiller(
                model_config,
                dataset.skeleton,
                config.students,
                temperature=config.temperature,
                teacher_mode=config.teacher_mode,
                teacher=state["model"],
                initialize=config.initialize,
                bodies=stored_bodies(state, config.teacher),
            )
        model = model.to(processes.device)
        task = Distillation(model, model_config, config.teacher, fill_bank=config.fill_bank)
        return fit(task, config, dataset, processes)


class Distillation(Task):
    """Training of the students of `nn.RelationalDistiller`.

    Args:
        model: on its device, with its teacher.
        model_config: of the teacher.
        teacher: where the teacher is from, for messages.
        fill_bank: whether a run begins with the teacher's features of the clips as they are in the bank.
    """

    kind = "distill"

    def __init__(
        self,
        model: RelationalDistiller,
        model_config: ModelConfig,
        teacher: Path,
        *,
        fill_bank: bool = False,
    ) -> None:
        self.model = model
        self.model_config = model_config
        self.teacher = teacher
        self.fill_bank = fill_bank
        self.names = model.student_modalities

    def begin(self, loader: BatchLoader, processes: Processes) -> None:
        """Fill the bank, if it is to be: with every clip, again from the first one where it has more rows."""
        left = self.model_config.queue_size if self.fill_bank else 0
        while left > 0:
            for number, (clips, frames) in enumerate(loader.in_order()):
                size = loader.clips_in(number)
                self.model.fill_bank(clips, frames, gather=partial(processes.gather, clips=size))
                left -= size
                if left <= 0:
                    break

    def phase(self, progress: Progress) -> str:
        """Name the only phase."""
        return "distillation"

    def losses(self, batch: Batch, phase: str, gather: Gather) -> torch.Tensor:
        """Compute each student's loss: students see the query's view, the teacher sees the key's."""
        return self.model(
            batch.key.clips,
            batch.query.clips,
            batch.frames,
            augment_teacher=batch.key.augmentation,
            augment_student=batch.query.augmentation,
            gather=gather,
            watch=self._watch,
        )

    def _watch(self, queries, teacher, features):
        """The key of every student is the teacher's modalities side by side."""
        key = F.normalize(teacher, dim=-1).transpose(0, 1).flatten(1)
        self.seen = Seen(queries, key.expand(len(queries), -1, -1), features)

    def chance(self, phase: str) -> float:
        """Compute the loss at similarities of 0: the logarithm of how many features one is compared with."""
        keys = self.model_config.queue_size
        return math.log1p(2 * keys if self.model_config.context else keys)

    def negatives(self) -> torch.Tensor:
        """Average the bank, modalities side by side, alike for every student."""
        rows = self.model.bank.rows
        return (rows.mean(1).flatten() / len(rows) ** 0.5).expand(len(self.names), -1)

    def check(self, clips: int) -> None:
        """Raise InputError where the teacher's bank cannot hold the features of a batch."""
        queue_size = self.model_config.queue_size
        if clips > queue_size:
            raise InputError(
                f"batch_size: expected at most {queue_size}, for the bank of {self.teacher} must hold a "
                f"batch, found {clips} clips in one"
            )

    def check_resumed(self, state: dict[str, Any], path: Path) -> None:
        """Raise InputError where the run had a teacher of other weights, wherever it lay."""
        for name, value in self.model.teacher.named_parameters():
            stored = state["model"].get(f"teacher.{name}")
            if stored is None or not torch.equal(stored, value.detach().cpu()):
                raise InputError(
                    f"{path}: expected the teacher that the run was begun with, "
                    f"{state['config'].get('teacher')}, found another in {self.teacher}"
                )
