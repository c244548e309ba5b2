"""Frozen encoders out of a checkpoint, and the features they give of a dataset's clips."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ikem_fast import ops
from ikem_fast.data import Dataset, Split, open_dataset
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError
from ikem_fast.evaluate.config import EvaluateConfig
from ikem_fast.nn.build import build_distiller, build_ikem
from ikem_fast.progress import progress_bar
from ikem_fast.runtime.checkpoint import fitting, load_checkpoint, stored_bodies, stored_model_config
from ikem_fast.settings import Allowed
from ikem_fast.skeleton import MODALITIES

# Clips at once: few keep a CPU's caches warm, many fill a GPU (about 8 MB of activations each).
BATCH_SIZES = {"cpu": 64, "cuda": 1024}
TRIO = ("joint", "motion", "bone")


@dataclass(frozen=True)
class FrozenFeatures:
    """Features of a dataset's two splits, on the device.

    sets: name → positions of its modalities among the P that there are.
    x_train, x_test: (N,P,H) float32, bfloat16 under `amp`; y_train, y_test: (N,) int64.
    """

    dataset: Dataset
    sets: dict[str, list[int]]
    x_train: torch.Tensor
    y_train: torch.Tensor
    x_test: torch.Tensor
    y_test: torch.Tensor


def open_splits(folder: Path) -> Dataset:
    """Open a prepared dataset that has clips to learn from and clips to test on.

    Raises InputError where it cannot be opened or a split is empty.
    """
    dataset = open_dataset(folder)
    for name in ("train", "test"):
        if not len(dataset[name]):
            raise InputError(f"{folder}: expected clips in the split {name!r}, found none")
    return dataset


def frozen_features(config: EvaluateConfig, dataset: Dataset, device: torch.device) -> FrozenFeatures:
    """Compute the features of every clip of a dataset, as the settings of an evaluation say.

    Raises InputError for a checkpoint or set that cannot be used, or features that are not finite.
    """
    untrained_seed = config.seed if config.untrained else None
    encoders = load_encoders(config.checkpoint, dataset, untrained_seed=untrained_seed)
    sets = parse_sets(config.sets, tuple(encoders))
    if config.statistics == "estimated":
        estimate_statistics(encoders, dataset["train"], dataset.layout, device=device)

    def features(name):
        x = extract_features(
            encoders, dataset[name], dataset.layout, device=device, amp=config.amp, title=f"{name} features"
        )
        _check_finite(x, tuple(encoders), f"{config.checkpoint} on the split {name!r} of {config.data}")
        labels = torch.tensor(dataset[name].labels).to(device)
        return x.to(device, torch.bfloat16 if config.amp else torch.float32), labels

    x_train, y_train = features("train")
    x_test, y_test = features("test")
    return FrozenFeatures(dataset, sets, x_train, y_train, x_test, y_test)


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

    Raises InputError if the checkpoint cannot be read or was trained on another joint layout.
    """
    state = load_checkpoint(checkpoint)
    layout = state["dataset"]["layout"]
    if layout != dataset.layout:
        raise InputError(
            f"{checkpoint}: expected a model for the layout of {dataset.folder}, {dataset.layout!r}, "
            f"found one for {layout!r}"
        )
    model_config = stored_model_config(state, checkpoint)
    bodies = stored_bodies(state, checkpoint)
    if untrained_seed is not None:
        torch.manual_seed(untrained_seed)
    if state["kind"] == "pretrain":
        model = build_ikem(model_config, layout, bodies=bodies)
        encoders = model.query_encoders
    else:
        students = state["config"].get("students", ())
        problem = Allowed(choices=MODALITIES).problem_with(students)
        if problem:
            raise InputError(f"{checkpoint}: students: {problem}, found {students!r}")
        model = build_distiller(model_config, layout, students, bodies=bodies)
        encoders = model.students
    if untrained_seed is None:
        with fitting(checkpoint):
            model.load_state_dict(state["model"])
        _check_weights(encoders, checkpoint)
    return encoders.requires_grad_(False).eval()


def _check_weights(encoders, checkpoint):
    """Kernels may turn what is not a number into one, so that features do not tell."""
    for name, value in encoders.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{checkpoint}: expected finite weights, found others in {name}")


def extract_features(
    encoders: nn.ModuleDict,
    split: Split,
    layout: str,
    *,
    device: torch.device,
    amp: bool = False,
    title: str = "features",
) -> torch.Tensor:
    """Compute the pooled feature of every clip, without augmentation: (N,P,H) float32 on the CPU."""
    encoders.to(device).eval()
    features = [
        torch.stack(_features(encoders, clips, frames, layout, amp), 1).float().cpu()
        for clips, frames in _with_progress(_loader(split, device), title)
    ]
    return torch.cat(features)


def estimate_statistics(encoders: nn.ModuleDict, split: Split, layout: str, *, device: torch.device) -> None:
    """Set every normalisation's running statistics to the averages over the clips of a split.

    An untrained encoder has initial statistics that fit no data, and one that was trained for a few hundred
    steps has them still in part; with these the two compare fairly.
    """
    encoders.to(device).eval()
    for module in encoders.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # a plain average over batches
            module.train()
    for clips, frames in _with_progress(_loader(split, device), "statistics"):
        _features(encoders, clips, frames, layout, amp=False)
    encoders.eval()


@torch.no_grad()
def _features(encoders, clips, frames, layout, amp):
    views = ops.derive_modalities(clips, frames, modalities=tuple(encoders), layout=layout)
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=amp):
        return [encoder(view)[1] for encoder, view in zip(encoders.values(), views, strict=True)]


def _loader(split, device):
    return BatchLoader(split, BATCH_SIZES.get(torch.device(device).type, 64), device)


def _with_progress(loader, title) -> Iterator:
    with progress_bar() as progress:
        task = progress.add_task(title, total=len(loader), status="")
        for batch in loader.in_order():
            yield batch
            progress.advance(task)
