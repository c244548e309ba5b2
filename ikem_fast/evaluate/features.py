"""Frozen encoders out of a checkpoint, and the features they give of a dataset's clips."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ikem_fast import ops
from ikem_fast.augment import Recipe
from ikem_fast.data import Dataset, Split, drop_copies, hold_out, open_dataset
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError
from ikem_fast.evaluate.config import EncoderEvaluateConfig, EvaluateConfig
from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.progress import progress_bar
from ikem_fast.runtime.checkpoint import check_fits, load_checkpoint
from ikem_fast.runtime.encoders import stored_encoders
from ikem_fast.skeleton import Layout

# Clips at once: few keep a CPU's caches warm, many fill a GPU (about 8 MB of activations each).
BATCH_SIZES = {"cpu": 64, "cuda": 1024}
VIEWS = 6  # augmented ones of a clip, of which is seen how far augmentations move features
TRIO = ("joint", "motion", "bone")


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of a dataset's two splits, on the device.

    sets: name → positions of its modalities among the P that there are.
    modalities: names of the P.
    train, test: the clips of each split.
    encoders: that the features are of, if they are of any; statistics estimated where that was asked for.
    """

    dataset: Dataset
    sets: dict[str, list[int]]
    modalities: tuple[str, ...]
    train: Examples
    test: Examples
    encoders: nn.ModuleDict | None = None


def open_splits(config: EvaluateConfig) -> Dataset:
    """Open the dataset of an evaluation: clips to learn from in "train", clips to score on in "test".

    With `holdout` they are those of the other and of these training subjects; with `drop_copies` no clip to
    score on is one to learn from.

    Raises InputError where it cannot be opened, a split is empty, or a held-out subject is not there.
    """
    dataset = open_dataset(config.data)
    if config.holdout is not None:
        dataset = hold_out(dataset, [subject.strip() for subject in config.holdout.split(",")])
    if config.drop_copies:
        dataset = drop_copies(dataset)
    for name in ("train", "test"):
        if not len(dataset[name]):
            raise InputError(f"{config.data}: expected clips in the split {name!r}, found none")
    return dataset


def frozen_features(
    config: EncoderEvaluateConfig,
    dataset: Dataset,
    device: torch.device,
    *,
    untrained_seed: int | None = None,
) -> FrozenFeatures:
    """Compute the features of every clip of a dataset, as the settings of an evaluation say.

    untrained_seed: draw the encoders' weights from this seed; as the settings say, if not given.

    Raises InputError for a checkpoint or set that cannot be used, or features that are not finite.
    """
    if untrained_seed is None and config.untrained:
        untrained_seed = config.seed
    encoders = load_encoders(config.checkpoint, dataset, untrained_seed=untrained_seed)
    parse_sets(config.sets, tuple(encoders))  # ahead of what takes long
    if config.statistics == "estimated" or untrained_seed is not None:
        estimate_statistics(encoders, dataset["train"], dataset.skeleton, device=device)

    return encoded_features(config, dataset, encoders, device)


def encoded_features(
    config: EncoderEvaluateConfig, dataset: Dataset, encoders: nn.ModuleDict, device: torch.device
) -> FrozenFeatures:
    """Compute the features that encoders have of every clip of a dataset.

    Raises InputError for a set that cannot be used, or features that are not finite.
    """
    modalities = tuple(encoders)
    sets = parse_sets(config.sets, modalities)

    def examples(name):
        x = extract_features(
            encoders, dataset[name], dataset.skeleton,
            device=device, amp=config.amp, kind=config.features, title=f"{name} features",
        )  # fmt: skip
        _check_finite(x, modalities, f"{config.checkpoint} on the split {name!r} of {config.data}")
        return examples_of(x.to(device, held_dtype(config.amp, device)), dataset, name)

    return FrozenFeatures(dataset, sets, modalities, examples("train"), examples("test"), encoders)


def held_dtype(amp: bool, device: torch.device) -> torch.dtype:
    """Return the dtype that probes hold features in: bfloat16 where products of it are fast, on a GPU.

    On a CPU that does not multiply it itself the linear classifiers take more than twenty times as long.
    """
    return torch.bfloat16 if amp and device.type == "cuda" else torch.float32


def raw_features(
    dataset: Dataset, modalities: tuple[str, ...], sets: str | None, device: torch.device
) -> FrozenFeatures:
    """Take the preprocessed coordinates themselves, and what is derived of them, for features.

    Args:
        dataset: a prepared one.
        modalities: which are derived.
        sets: see `parse_sets`.
        device: where features are kept.

    Returns:
        Features of 3·T·V·M numbers a modality.

    Raises InputError for a set that cannot be used.
    """
    named = parse_sets(sets, modalities)

    def examples(name):
        x = [
            ops.derive_modalities(clips, frames, modalities=modalities, layout=dataset.skeleton)
            .flatten(2)
            .transpose(0, 1)
            .cpu()
            for clips, frames in clips_in_order(dataset[name], device, f"{name} coordinates")
        ]
        return examples_of(torch.cat(x).to(device), dataset, name)

    return FrozenFeatures(dataset, named, modalities, examples("train"), examples("test"))


@torch.no_grad()
def augmented_deviation(
    config: EncoderEvaluateConfig, features: FrozenFeatures, recipe: Recipe, device: torch.device
) -> torch.Tensor:
    """Measure how far augmentations move features: (P,H) float64, on the device.

    That is the deviation among `VIEWS` augmented views of a clip, as root mean square over training clips.

    Args:
        config: settings of the encoders; its seed is that of the views.
        features: whose encoders are asked; coordinates, if there are none.
        recipe: how clips are augmented.
        device: where to compute.
    """
    layout, source = recipe.shape.layout, torch.Generator(device).manual_seed(config.seed)
    total = torch.zeros((), dtype=torch.float64, device=device)
    for clips, frames in clips_in_order(features.dataset["train"], device, "augmented clips"):
        views = []
        for _ in range(VIEWS):
            moved, rest = recipe.apply(clips, recipe.draw(len(clips), source))
            if features.encoders is None:
                view = ops.derive_modalities(
                    moved, frames, modalities=features.modalities, layout=layout, **rest
                ).flatten(2)
            else:
                view = torch.stack(
                    _features(features.encoders, moved, frames, layout, config.amp, config.features, **rest)
                )
            views.append(view.double())
        total = total + torch.stack(views).var(0, correction=0).sum(1)
    return (total / len(features.train)).sqrt()


def examples_of(x: torch.Tensor, dataset: Dataset, split: str) -> Examples:
    """Put features (N,P,H) of a split's clips together with what is known of these."""
    part = dataset[split]
    labels = torch.tensor(np.asarray(part.labels)).to(x.device)
    return Examples(x, labels, len(dataset.classes), part.subjects)


def _check_finite(x, modalities, what):
    bad = ~x.isfinite().all(-1)
    if bad.any():
        names = [name for name, found in zip(modalities, bad.any(0).tolist(), strict=True) if found]
        raise InputError(
            f"{what}: expected finite features, found others in {int(bad.any(1).sum())} of {len(x)} clips, "
            f"of {', '.join(names)}; the weights or the clips hold numbers that are not finite"
        )


def parse_sets(text: str | None, modalities: tuple[str, ...]) -> dict[str, list[int]]:
    """Find the sets of modalities that a text names: set's name → positions of its modalities.

    Raises InputError for a modality that is not there, or twice in a set.
    """
    if text is None:
        together = [TRIO] if set(TRIO) < set(modalities) else []
        together += [modalities] if len(modalities) > 1 else []
        names = [*modalities, *("+".join(names) for names in together)]
    else:
        names = [part.strip() for part in text.split(",")]
    for name in names:
        parts = name.split("+")
        wrong = [part for part in parts if part not in modalities or parts.count(part) > 1]
        if wrong:
            raise InputError(
                f"sets: expected modalities out of {', '.join(modalities)}, each once in a set, found "
                f"{wrong[0]!r} in {name!r}"
            )
    return {name: [modalities.index(modality) for modality in name.split("+")] for name in names}


def load_encoders(checkpoint: Path, dataset: Dataset, *, untrained_seed: int | None = None) -> nn.ModuleDict:
    """Load the query encoders of a pretraining checkpoint, or the students of a distillation one.

    Args:
        checkpoint: path of a checkpoint.
        dataset: that the encoders are for.
        untrained_seed: leave the weights random, drawn from this seed.

    Returns:
        Modality → encoder, on the CPU in eval mode.

    Raises InputError if the checkpoint cannot be read or its model does not take these clips.
    """
    state = load_checkpoint(checkpoint)
    check_fits(state, checkpoint, dataset.folder, dataset.skeleton, dataset.num_bodies)
    return stored_encoders(state, checkpoint, untrained_seed=untrained_seed)


def extract_features(
    encoders: nn.ModuleDict,
    split: Split,
    layout: str | Layout,
    *,
    device: torch.device,
    amp: bool = False,
    kind: str = "feature",
    title: str = "features",
) -> torch.Tensor:
    """Compute the feature of every clip, without augmentation: (N,P,H) float32 on the CPU.

    kind: "feature", the pooled one, or "output", what the encoders' heads make of it.
    """
    encoders.to(device).eval()
    features = [
        torch.stack(_features(encoders, clips, frames, layout, amp, kind), 1).float().cpu()
        for clips, frames in clips_in_order(split, device, title)
    ]
    return torch.cat(features)


def estimate_statistics(
    encoders: nn.ModuleDict, split: Split, layout: str | Layout, *, device: torch.device
) -> None:
    """Set every normalisation's running statistics to the averages over the clips of a split.

    An untrained encoder has initial statistics that fit no data, and one that was trained for a few hundred
    steps has them still in part; with these the two compare fairly. A last batch of a single clip is left
    out: a head has nothing to normalize it by.
    """
    encoders.to(device).eval()
    for module in encoders.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # a plain average over batches
            module.train()
    for clips, frames in clips_in_order(split, device, "statistics"):
        if len(clips) > 1:
            _features(encoders, clips, frames, layout, amp=False)
    encoders.eval()


@torch.no_grad()
def _features(encoders, clips, frames, layout, amp, kind="feature", **augmented):
    views = ops.derive_modalities(clips, frames, modalities=tuple(encoders), layout=layout, **augmented)
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=amp):
        return [
            encoder(view)[kind == "feature"] for encoder, view in zip(encoders.values(), views, strict=True)
        ]


def clips_in_order(
    split: Split, device: torch.device, title: str
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches of a split, (clips, frames) on the device, in order; `title` is said of the progress."""
    loader = BatchLoader(split, BATCH_SIZES.get(torch.device(device).type, 64), device)
    with progress_bar() as progress:
        task = progress.add_task(title, total=len(loader), status="")
        for batch in loader.in_order():
            yield batch
            progress.advance(task)
