"""Pretraining: momentum contrast of each modality, then exchange between modalities."""

import math
from dataclasses import replace
from pathlib import Path

import torch

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM
from ikem_fast.nn.build import build_ikem
from ikem_fast.nn.config import ModelConfig
from ikem_fast.nn.ikem import METHODS
from ikem_fast.runtime.processes import joined
from ikem_fast.settings import check
from ikem_fast.train.budget import Progress
from ikem_fast.train.config import PretrainConfig
from ikem_fast.train.loop import fit
from ikem_fast.train.task import Batch, Gather, Seen, Task


def pretrain(config: PretrainConfig) -> Path:
    """Train `nn.IKEM` on a prepared dataset, both phases.

    Args:
        config: the settings.

    Returns:
        The path of the checkpoint.

    Raises InputError for a dataset, folder, device or setting that cannot be used, before
    anything is written.

    Example:
        pretrain(PretrainConfig(data="data/ntu60", out="runs/teacher", epochs=300))
    """
    check(config)
    dataset = open_dataset(config.data)
    with joined(config.device, config.patience) as processes:
        torch.manual_seed(config.seed)
        config = replace(config, model=config.model.complete())
        bodies = dataset["train"].clips.shape[-1]
        model = build_ikem(config.model, dataset.skeleton, bodies=bodies).to(processes.device)
        task = Pretraining(
            model,
            config.model,
            config.exchange_from,
            method=config.method,
            momentum_schedule=config.momentum_schedule,
        )
        return fit(task, config, dataset, processes)


class Pretraining(Task):
    """Training of `nn.IKEM`: contrast at first, exchange from a given moment on.

    Args:
        model: on its device.
        model_config: that it was built from.
        exchange_from: where phase 2 begins, an epoch or a share of the budget; None: never.
        method: of `nn.ikem.METHODS`, whose losses phase 2 has.
        momentum_schedule: "constant" or "cosine", see `PretrainConfig`.
    """

    kind = "pretrain"

    def __init__(
        self,
        model: IKEM,
        model_config: ModelConfig,
        exchange_from: float | None,
        *,
        method: str = "ikem",
        momentum_schedule: str = "constant",
    ) -> None:
        self.model = model
        self.model_config = model_config
        self.exchange_losses = METHODS[method]
        self.exchange_from = exchange_from if self.exchange_losses else None
        self.momentum_rises = momentum_schedule == "cosine"
        self.names = model.modalities

    def phase(self, progress: Progress) -> str:
        """Name the phase: "contrast", or "exchange" from `exchange_from` on."""
        return "exchange" if progress.reached(self.exchange_from) else "contrast"

    def losses(self, batch: Batch, phase: str, gather: Gather) -> torch.Tensor:
        """Compute each modality's loss of two views of the same clips."""
        return self.model(
            batch.query.clips,
            batch.key.clips,
            batch.frames,
            exchange=self.exchange_losses if phase == "exchange" else False,
            augment_q=batch.query.augmentation,
            augment_k=batch.key.augmentation,
            gather=gather,
            watch=self._watch,
        )

    def _watch(self, queries, keys, features):
        self.seen = Seen(queries, keys, features)

    def chance(self, phase: str) -> float:
        """Compute the loss at similarities of 0: logarithms of how many keys a query is compared with."""
        keys = self.model_config.queue_size
        losses = self.exchange_losses if phase == "exchange" else ()
        cross = math.log1p(2 * keys if self.model_config.context else keys)
        chances = {"cross_modal_contrast": cross, "implicit_exchange": math.log1p(keys)}
        return sum(chances[name] for name in losses) if losses else math.log1p(keys)

    def negatives(self) -> torch.Tensor:
        """Average the keys of each modality's bank."""
        return self.model.bank.rows.mean(1)

    def advance(self, progress: Progress) -> None:
        """Set the momentum of the key encoders, where it rises."""
        if self.momentum_rises:
            left = (1 + math.cos(math.pi * progress.share)) / 2
            self.model.momentum = 1 - (1 - self.model_config.momentum) * left

    def check(self, clips: int) -> None:
        """Raise InputError where the bank cannot hold the keys of a batch."""
        queue_size = self.model_config.queue_size
        if clips > queue_size:
            raise InputError(
                f"batch_size: expected at most model.queue_size = {queue_size}, for the bank must hold a "
                f"batch, found {clips} clips in one"
            )
