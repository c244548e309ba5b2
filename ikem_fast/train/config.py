"""Every setting of a training run: one definition, for YAML files, the command line and Python alike."""

import contextlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ikem_fast.augment.named import completed, named
from ikem_fast.errors import InputError
from ikem_fast.nn.config import ModelConfig
from ikem_fast.ops.modalities.definitions import DEFINITIONS
from ikem_fast.runtime.loggers import LOGGERS
from ikem_fast.settings import setting
from ikem_fast.train.budget import Progress

PUBLISHED_BATCH = 128
MAX_LEARNING_RATE = 100.0  # far above any that learns: a slip of the keys is refused, an experiment is not
MAX_SEED = 2**63 - 1
# Settings that there were → how the same is said now.
FORMER = {
    "shear_amplitude": "augmentations: [{name: shear, amplitude: 0.5}, …]",
    "temporal_crop": "augmentations: [{name: crop}, …]",
}
FORMER_TOO = {"checkpoint_every": "checkpoint_minutes: 0.5, in minutes and within epochs too"}


@dataclass(kw_only=True)
class TrainConfig:
    """Settings that pretraining and distillation share.

    A run's budget is what `epochs`, `max_steps` and `max_minutes` leave it, whichever ends it first.

    Args:
        data: Folder of a prepared dataset.
        out: Folder for the checkpoint, the metrics and TensorBoard's events.
        epochs: How many times training goes through the clips; the published number where neither this nor
            max_steps nor max_minutes is given, 300 in pretraining and 150 in distillation.
        max_steps: After how many steps training ends.
        max_minutes: After how many minutes of training it ends, those before it was gone on with included.
        batch_size: How many clips are in a step, of all processes together.
        optimizer: sgd, as published, or adamw.
        lr: The learning rate.
        lr_scaling: With none, lr is taken as it is; linear multiplies it by batch_size / 128, the published
            batch.
        schedule: With step the learning rate is multiplied by 0.1 at each milestone; with cosine it falls to
            0 over the budget, along half a cosine.
        lr_milestones: The milestones: epochs after which the rate falls (1, 2, …), or shares of the budget
            (below 1).
        warmup: The share of the budget over which the learning rate rises from 0.
        sgd_momentum: The momentum of SGD: the share of the last step's direction that is kept.
        weight_decay: The weight decay: SGD adds this share of each weight to its gradient; AdamW shrinks
            each weight by this share times the learning rate, but no bias and no normalization.
        augmentations: What a view is augmented by, in this order: settings by name each, such as
            [{name: shear, amplitude: 0.5}, {name: flip, probability: 0.3}].
        key_augmentations: The same for the view of keys, or of the teacher in distillation; augmentations
            where not given.
        fresh_augmentation: Whether augmentations are drawn anew each epoch; the published code repeats the
            first's.
        drop_last: Whether the last, smaller batch of an epoch is left out; one of a single clip always is.
        sync_bn: Whether normalisation statistics come from the batches of all processes, not from each
            one's share.
        amp: Whether to compute in mixed precision, in bfloat16 where that is safe.
        compile: Whether torch.compile makes the encoders faster; max searches longer for the fastest kernels.
        cuda_graph: Whether whole steps are replayed from a CUDA graph, on a GPU; an epoch's last, smaller
            batch runs without.
        device: Where to compute: cpu, cuda, cuda:1, …; auto takes a GPU where there is one. Under torchrun,
            auto and cuda give each process of a machine its own.
        seed: What weights, order, augmentation and dropout are drawn from.
        loggers: What takes figures beside metrics.jsonl: tensorboard, wandb and mlflow, the last two by
            extras of these names.
        checkpoint_minutes: After how many minutes of training the next checkpoint is written, wherever in an
            epoch it is; the last is always written.
        checkpoint_steps: The same in steps; whichever comes first.
        keep_last: How many checkpoints are kept, with the newest.
        keep_every: Of how many steps each the first checkpoint is kept for good.
        keep_best: Whether a checkpoint is written after each epoch with the lowest loss of its phase so far,
            and the last of these kept as checkpoint-best.pt.
        nonfinite: What becomes of a step whose gradient is not finite. No weight is changed by it, and
            nonfinite.jsonl names its clips; stop ends the run, skip goes on without it, up to ten in a row,
            for a copy of the model's buffers in each step.
        patience: How many seconds a process waits for another that does not answer before the run ends.
        resume: Whether to go on from the checkpoint in `out`, if there is one; with auto, from the newest
            that is whole. Then the budget may change where no schedule depends on it, and where it computes;
            what would change the numbers may not.
    """

    published_epochs: ClassVar[int] = 300
    former: ClassVar[dict[str, str]] = FORMER | FORMER_TOO

    data: Path
    out: Path
    epochs: int | None = setting(None, least=1)
    max_steps: int | None = setting(None, least=1)
    max_minutes: float | None = setting(None, above=0)
    batch_size: int = setting(128, least=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = setting(0.1, above=0, most=MAX_LEARNING_RATE)
    lr_scaling: Literal["none", "linear"] = "none"
    schedule: Literal["step", "cosine"] = "step"
    lr_milestones: tuple[int | float, ...] = setting((250,), above=0, rising=True)
    warmup: float = setting(0.0, least=0, below=1)
    sgd_momentum: float = setting(0.9, least=0, below=1)
    weight_decay: float = setting(1e-4, least=0, most=1)
    augmentations: tuple[dict[str, Any], ...] = ({"name": "shear", "amplitude": 0.5}, {"name": "crop"})
    key_augmentations: tuple[dict[str, Any], ...] | None = None
    fresh_augmentation: bool = True
    drop_last: bool = False
    sync_bn: bool = False
    amp: bool = False
    compile: Literal["off", "on", "max"] = "off"
    cuda_graph: bool = False
    device: str = "auto"
    seed: int = setting(0, least=0, most=MAX_SEED)
    loggers: tuple[str, ...] = setting(("tensorboard",), choices=tuple(LOGGERS), empty=True)
    checkpoint_minutes: float = setting(5.0, above=0)
    checkpoint_steps: int | None = setting(None, least=1)
    keep_last: int = setting(2, least=1)
    keep_every: int | None = setting(None, least=1)
    keep_best: bool = False
    nonfinite: Literal["stop", "skip"] = "stop"
    patience: float = setting(300.0, above=0)
    resume: bool | Literal["auto"] = False

    def __post_init__(self) -> None:
        """Write augmentations out, so that what is stored says what was done; `check` finds what is wrong."""
        with contextlib.suppress(InputError):
            self.augmentations = completed(self.augmentations)
            if self.key_augmentations is not None:
                self.key_augmentations = completed(self.key_augmentations)

    def leaves_out_last(self, clips: int) -> bool:
        """Say whether an epoch of so many clips ends with its last whole batch.

        A clip by itself has no statistics to be normalized by.
        """
        return self.drop_last or (clips % self.batch_size == 1 and clips > 1)

    def total_steps(self, steps_an_epoch: int) -> int | None:
        """Count the steps after which a run ends; None where minutes alone end it."""
        epochs = self.epochs
        if epochs is None and self.max_steps is None and self.max_minutes is None:
            epochs = self.published_epochs
        ends = [] if epochs is None else [epochs * steps_an_epoch]
        ends += [] if self.max_steps is None else [self.max_steps]
        return min(ends, default=None)

    def learning_rate(self, progress: Progress) -> float:
        """Compute the rate of a step: `lr`, scaled by `lr_scaling`, as `schedule` and `warmup` have it."""
        rate = self.lr * (self.batch_size / PUBLISHED_BATCH if self.lr_scaling == "linear" else 1)
        if self.schedule == "cosine":
            fallen = max(0.0, progress.share - self.warmup) / (1 - self.warmup)
            rate *= (1 + math.cos(math.pi * fallen)) / 2
        else:
            rate *= 0.1 ** sum(progress.reached(_after(milestone)) for milestone in self.lr_milestones)
        return rate * min(1.0, progress.share / self.warmup) if self.warmup else rate

    def depends_on_budget(self) -> bool:
        """Tell whether a step computes something else in a run of another budget."""
        shares = self.schedule == "step" and any(milestone < 1 for milestone in self.lr_milestones)
        return self.schedule == "cosine" or self.warmup > 0 or shares

    def problem(self) -> str | None:
        """Say which augmentation there is not, or which milestone is no epoch and no share, or None."""
        try:
            named(self.augmentations)
            named(self.key_augmentations or (), "key_augmentations")
        except InputError as error:
            return str(error)
        return _moments("lr_milestones", self.lr_milestones)


@dataclass(kw_only=True)
class PretrainConfig(TrainConfig):
    """Settings of pretraining. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        method: Which losses phase 2 has: ikem both, cross-modal contrast and implicit exchange; crossclr the
            first alone, exchange the second alone; skeletonclr has no phase 2.
        exchange_from: Where phase 2 begins: its first epoch (1, 2, …), or the share of the budget that is
            phase 1 (below 1); null, or an epoch that does not come, leaves phase 2 out.
        momentum_schedule: With constant key encoders keep model.momentum; with cosine it rises to 1 over the
            budget, along half a cosine.
        model: The sizes of the model and the constants of its losses.
    """

    method: Literal["ikem", "crossclr", "skeletonclr", "exchange"] = "ikem"
    exchange_from: int | float | None = setting(151, above=0)
    momentum_schedule: Literal["constant", "cosine"] = "constant"
    model: ModelConfig = field(default_factory=ModelConfig)

    def depends_on_budget(self) -> bool:
        """Tell whether a step computes something else in a run of another budget."""
        shares = self.exchange_from is not None and self.exchange_from < 1
        return super().depends_on_budget() or shares or self.momentum_schedule == "cosine"

    def problem(self) -> str | None:
        """Say where phase 2 cannot be computed or is neither at an epoch nor at a share, or None."""
        if self.momentum_schedule == "cosine" and self.cuda_graph:
            return "momentum_schedule: expected constant with cuda_graph, whose steps are alike, found cosine"
        if self.exchange_from is None or self.method == "skeletonclr":
            return super().problem()
        if len(self.model.modalities) < 2 and self._phase_2_may_come(self.exchange_from):
            return (
                "model.modalities: expected at least two, which exchange in phase 2 (--exchange-from is "
                f"{self.exchange_from}), found {list(self.model.modalities)!r}; name more, or leave phase 2 "
                "out by --method skeletonclr"
            )
        return super().problem() or _moments("exchange_from", (self.exchange_from,))

    def _phase_2_may_come(self, when):
        """Epochs that end a run tell; steps and minutes do not, as long as nothing is known of the clips."""
        epochs = self.total_steps(1) if self.max_steps is None else self.epochs
        return when < 1 or epochs is None or when <= epochs


@dataclass(kw_only=True)
class DistillConfig(TrainConfig):
    """Settings of distillation. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        teacher: The checkpoint of a pretraining run, or its folder.
        temperature: The temperature of the loss.
        students: The modalities distilled into.
        initialize: Where students start: at random weights, as published, or at the teacher's, of its
            encoder of the same modality.
        fill_bank: Whether the bank is filled with the teacher's features of the clips as they are, before the
            first step; the published code begins with the bank that pretraining left, of another encoder's
            features of augmented clips. With it, `key_augmentations: []` has the teacher see clips as they
            are.
        teacher_mode: With eval the teacher is frozen whole; train keeps its dropout running, as published.
    """

    published_epochs: ClassVar[int] = 150

    teacher: Path
    temperature: float = setting(0.07, above=0)
    lr_milestones: tuple[int | float, ...] = setting((125,), above=0, rising=True)
    students: tuple[str, ...] = setting(("joint", "motion", "bone"), choices=tuple(DEFINITIONS))
    initialize: Literal["random", "teacher"] = "random"
    fill_bank: bool = False
    teacher_mode: Literal["eval", "train"] = "eval"


def _after(milestone):
    """The first moment behind a milestone."""
    return milestone if milestone < 1 else milestone + 1


def _moments(name, values):
    """What is wrong with moments of a run that are each > 0, or None."""
    wrong = [value for value in values if value > 1 and value != int(value)]
    return (
        f"{name}: expected whole epochs, or shares of the budget below 1, found {wrong[0]}" if wrong else None
    )
