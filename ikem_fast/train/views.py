"""The two augmented views of a batch: what a query sees, and what its key sees."""

import numpy as np
import torch

from ikem_fast.augment import Recipe, Shape, named
from ikem_fast.augment.recipes import cut
from ikem_fast.data import Dataset
from ikem_fast.runtime.processes import Processes
from ikem_fast.train.budget import Progress
from ikem_fast.train.config import TrainConfig
from ikem_fast.train.task import View


class Views:
    """Makes both views of each step's clips; the seed and the step's number decide them alone.

    They are drawn on the device, for the whole batch, so that every process draws alike, and cut to this
    one's share.

    Args:
        config: the settings.
        dataset: whose clips are augmented.
        processes: those that train.

    Raises InputError where these clips cannot be augmented as the settings say.

    Example:
        query, key = Views(config, dataset, processes)(clips, 128, budget.progress())
    """

    def __init__(self, config: TrainConfig, dataset: Dataset, processes: Processes) -> None:
        self.config = config
        self.processes = processes
        self.source = torch.Generator(processes.device)
        planar = dataset.preprocessing.planar
        shape = Shape(dataset.num_frames, dataset.num_bodies, dataset.skeleton, planar)
        lists = {"augmentations": config.augmentations}
        lists["key_augmentations"] = (
            config.augmentations if config.key_augmentations is None else config.key_augmentations
        )
        self.recipes = [Recipe(named(entries, name), shape, name) for name, entries in lists.items()]

    def __call__(self, clips: torch.Tensor, size: int, progress: Progress) -> tuple[View, View]:
        """Augment this process's share of a batch of `size` clips."""
        epoch = progress.epoch if self.config.fresh_augmentation else 1
        self.source.manual_seed(seed_of(self.config.seed, "augmentation", epoch, progress.batch))
        share = self.processes.share(size).clips
        query, key = (
            View(*recipe.apply(clips, cut(recipe.draw(size, self.source), share))) for recipe in self.recipes
        )
        return query, key


def seed_of(seed: int, purpose: str, epoch: int, batch: int, rank: int = 0) -> int:
    """Mix a run's seed, what is drawn, and a step's number to a seed of 63 bits.

    Example:
        generator.manual_seed(seed_of(0, "dropout", epoch=1, batch=0, rank=3))
    """
    entropy = (seed, epoch, batch, int.from_bytes(purpose.encode()), *([rank] if rank else []))
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
