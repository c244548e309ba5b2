"""Encoders trained on labels: with a linear layer on each one's feature, for a number of steps."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ikem_fast import ops
from ikem_fast.augment import Recipe, Shape, named
from ikem_fast.augment.named import completed
from ikem_fast.data import Dataset, Split
from ikem_fast.errors import InputError
from ikem_fast.evaluate.features import clips_in_order, estimate_statistics
from ikem_fast.settings import setting
from ikem_fast.skeleton import Layout

WARM_UP = 0.1  # of the steps


@dataclass(kw_only=True)
class TrainingConfig:
    """Settings of training on labels.

    Args:
        steps: How many steps of the optimiser are taken.
        batch_size: How many clips are in a step.
        lr: The highest learning rate of AdamW; it rises over the first tenth of the steps and falls as a
            cosine to 0.
        weight_decay: The weight decay of AdamW.
        augmentations: What clips are augmented by, in this order: settings by name each, as in pretraining.
    """

    steps: int = setting(300, least=1)
    batch_size: int = setting(32, least=1)
    lr: float = setting(1e-3, above=0, most=100)
    weight_decay: float = setting(0.01, least=0)
    augmentations: tuple[dict[str, Any], ...] = ({"name": "shear"}, {"name": "crop"})

    def __post_init__(self) -> None:
        """Write augmentations out, so that what is stored says what was done; `check` finds what is wrong."""
        with contextlib.suppress(InputError):
            self.augmentations = completed(self.augmentations)

    def problem(self) -> str | None:
        """Say which augmentation there is not, or None."""
        try:
            named(self.augmentations)
        except InputError as error:
            return str(error)
        return None

    def recipe(self, dataset: Dataset) -> Recipe:
        """Make the augmentations for the clips of a dataset.

        Raises InputError where they cannot be augmented so.
        """
        planar = dataset.preprocessing.planar
        shape = Shape(dataset.num_frames, dataset.num_bodies, dataset.skeleton, planar)
        return Recipe(named(self.augmentations), shape)


class Classifier(nn.Module):
    """Encoders with a linear layer on the feature of each.

    encoders: modality → encoder.
    width: size of their features.
    """

    def __init__(self, encoders: nn.ModuleDict, width: int, classes: int):
        super().__init__()
        self.encoders = encoders
        self.heads = nn.ModuleDict({name: nn.Linear(width, classes) for name in encoders})

    def forward(self, views: torch.Tensor) -> torch.Tensor:
        """Map views (P,N,3,T,V,M) to scores (P,N,C), each through its own encoder."""
        return torch.stack([
            self.heads[name](encoder(view)[1])
            for (name, encoder), view in zip(self.encoders.items(), views, strict=True)
        ])  # fmt: skip


def train_classifier(
    encoders: nn.ModuleDict,
    split: Split,
    recipe: Recipe,
    classes: int,
    config: TrainingConfig,
    *,
    where: np.ndarray | None = None,
    seed: int,
    device: torch.device,
    amp: bool = False,
) -> Classifier:
    """Train encoders and a linear layer on each by the labels of a split.

    Every modality learns for itself, on the same batches: the loss is the sum of their cross entropies.
    Afterwards the normalizations' statistics are those of the whole split.

    Args:
        encoders: modality → encoder, which are changed.
        split: training clips.
        recipe: how they are augmented.
        classes: how many there are.
        config: how to train.
        where: positions of the clips whose labels are used; all, if not given.
        seed: of the linear layers, the batches and the augmentations.
        device: where to compute.
        amp: whether to compute in bfloat16 where that is safe.
    """
    torch.manual_seed(seed)
    random, source = torch.Generator().manual_seed(seed), torch.Generator(device).manual_seed(seed)
    layout = recipe.shape.layout
    encoders.requires_grad_(True).to(device)
    model = Classifier(encoders, feature_width(encoders, split, layout, device), classes).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_rate(step, config.steps))
    labels = torch.tensor(np.asarray(split.labels))
    for batch in _batches(np.arange(len(split)) if where is None else where, config, random):
        clips = torch.from_numpy(np.array(split.clips[batch])).to(device)
        frames = torch.tensor(np.asarray(split.frames[batch]), device=device)
        clips, rest = recipe.apply(clips, recipe.draw(len(clips), source))
        views = ops.derive_modalities(clips, frames, modalities=tuple(encoders), layout=layout, **rest)
        with torch.autocast(device.type, torch.bfloat16, enabled=amp):
            scores = model(views)
        target = labels[batch].to(device)
        loss = sum(F.cross_entropy(one.float(), target) for one in scores)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    estimate_statistics(encoders, split, layout, device=device)
    return model.requires_grad_(False).eval()


@torch.no_grad()
def classify(model: Classifier, split: Split, layout: str | Layout, *, device: torch.device) -> torch.Tensor:
    """Score the clips of a split: (N,P,C) float32 on the CPU."""
    model.to(device).eval()
    modalities = tuple(model.encoders)
    scores = []
    for clips, frames in clips_in_order(split, device, "scores"):
        views = ops.derive_modalities(clips, frames, modalities=modalities, layout=layout)
        scores.append(model(views).transpose(0, 1).float().cpu())
    return torch.cat(scores)


@torch.no_grad()
def feature_width(encoders: nn.ModuleDict, split: Split, layout: str | Layout, device: torch.device) -> int:
    """Ask an encoder for the size of its feature, by a clip."""
    clip = torch.from_numpy(np.array(split.clips[:1])).to(device)
    name, encoder = next(iter(encoders.items()))
    (view,) = ops.derive_modalities(clip, modalities=(name,), layout=layout)
    return encoder.to(device).eval()(view)[1].shape[1]


def share_of_rate(step: int, steps: int) -> float:
    """Compute the share of the highest learning rate in a step: a rise, then half a cosine.

    Example:
        share_of_rate(0, 100), share_of_rate(9, 100)  # (0.1, 1.0)
    """
    rise = max(1, round(WARM_UP * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def _batches(clips: np.ndarray, config: TrainingConfig, random: torch.Generator) -> Iterator[np.ndarray]:
    """Positions of each step's clips: one permutation after another, each gone through."""
    size, order = min(config.batch_size, len(clips)), torch.empty(0, dtype=torch.int64)
    for _ in range(config.steps):
        if len(order) < size:
            order = torch.cat([order, torch.randperm(len(clips), generator=random)])
        batch, order = order[:size], order[size:]
        yield clips[batch.numpy()]
