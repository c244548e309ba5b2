"""Pretraining: momentum contrast of each modality, then exchange between modalities."""

from dataclasses import replace
from pathlib import Path

import torch

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM
from ikem_fast.nn.build import build_ikem
from ikem_fast.nn.config import ModelConfig
from ikem_fast.runtime.processes import joined
from ikem_fast.settings import check
from ikem_fast.train.budget import Progress
from ikem_fast.train.config import PretrainConfig
from ikem_fast.train.loop import fit
from ikem_fast.train.task import Batch, Gather, Task


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
    with joined(config.device) as processes:
        torch.manual_seed(config.seed)
        config = replace(config, model=config.model.complete())
        bodies = dataset["train"].clips.shape[-1]
        model = build_ikem(config.model, dataset.layout, bodies=bodies).to(processes.device)
        return fit(Pretraining(model, config.model, config.exchange_from), config, dataset, processes)


class Pretraining(Task):
    """Training of `nn.IKEM`: contrast at first, exchange from a given moment on.

    Args:
        model: on its device.
        model_config: that it was built from.
        exchange_from: where phase 2 begins, an epoch or a share of the budget; None: never.
    """

    kind = "pretrain"

    def __init__(self, model: IKEM, model_config: ModelConfig, exchange_from: float | None) -> None:
        self.model = model
        self.model_config = model_config
        self.exchange_from = exchange_from
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
            exchange=phase == "exchange",
            augment_q=batch.query.augmentation,
            augment_k=batch.key.augmentation,
            gather=gather,
        )

    def check(self, clips: int) -> None:
        """Raise InputError where the bank cannot hold the keys of a batch."""
        queue_size = self.model_config.queue_size
        if clips > queue_size:
            raise InputError(
                f"batch_size: expected at most model.queue_size = {queue_size}, for the bank must hold a "
                f"batch, found {clips} clips in one"
            )
