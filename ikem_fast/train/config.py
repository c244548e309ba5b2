"""Every setting of a training run: one definition, for YAML files, the command line and Python alike."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ikem_fast.nn.config import ModelConfig
from ikem_fast.settings import setting
from ikem_fast.skeleton import MODALITIES

PUBLISHED_BATCH = 128
MAX_LEARNING_RATE = 100.0  # far above any that learns: a slip of the keys is refused, an experiment is not
MAX_SEED = 2**63 - 1


@dataclass(kw_only=True)
class TrainConfig:
    """Settings that pretraining and distillation share.

    Args:
        data: Folder of a prepared dataset.
        out: Folder for the checkpoint, the metrics and the TensorBoard scalars.
        epochs: How many times training goes through the clips.
        batch_size: How many clips are in a step, of all processes together.
        lr: The learning rate of SGD.
        lr_scaling: With none, lr is taken as it is; linear multiplies it by batch_size / 128, the published
            batch.
        lr_milestones: The epochs after which the learning rate is multiplied by 0.1.
        sgd_momentum: The momentum of SGD: the share of the last step's direction that is kept.
        weight_decay: The weight decay of SGD: the share of each weight that is added to its gradient.
        shear_amplitude: The largest off-diagonal entry of the random shear; 0 leaves shearing out.
        temporal_crop: Whether views are random windows of the mirror-padded clip.
        fresh_augmentation: Whether augmentations are drawn anew each epoch; the published code repeats the
            first's.
        drop_last: Whether the last, smaller batch of an epoch is left out.
        sync_bn: Whether normalisation statistics come from the batches of all processes, not from each
            one's share.
        amp: Whether to compute in mixed precision, in bfloat16 where that is safe.
        compile: Whether torch.compile makes the encoders faster; max searches longer for the fastest kernels.
        cuda_graph: Whether whole steps are replayed from a CUDA graph, on a GPU; an epoch's last, smaller
            batch runs without.
        device: Where to compute: cpu, cuda, cuda:1, …; auto takes a GPU where there is one. Under torchrun,
            auto and cuda give each process of a machine its own.
        seed: What weights, order, augmentation and dropout are drawn from.
        resume: Whether to go on from the checkpoint in `out`, if there is one. Then `epochs` may change, and
            where it computes; what would change the numbers may not.
    """

    data: Path
    out: Path
    epochs: int = setting(300, least=1)
    batch_size: int = setting(128, least=1)
    lr: float = setting(0.1, above=0, most=MAX_LEARNING_RATE)
    lr_scaling: Literal["none", "linear"] = "none"
    lr_milestones: tuple[int, ...] = setting((250,), least=1, rising=True)
    sgd_momentum: float = setting(0.9, least=0, below=1)
    weight_decay: float = setting(1e-4, least=0, most=1)
    shear_amplitude: float = setting(0.5, least=0, most=10)
    temporal_crop: bool = True
    fresh_augmentation: bool = True
    drop_last: bool = False
    sync_bn: bool = False
    amp: bool = False
    compile: Literal["off", "on", "max"] = "off"
    cuda_graph: bool = False
    device: str = "auto"
    seed: int = setting(0, least=0, most=MAX_SEED)
    resume: bool = False

    def learning_rate(self, epoch: int) -> float:
        """Compute the rate of epoch 1, 2, …: `lr`, scaled by `lr_scaling`, × 0.1 a milestone passed."""
        scale = self.batch_size / PUBLISHED_BATCH if self.lr_scaling == "linear" else 1
        return self.lr * scale * 0.1 ** sum(epoch > milestone for milestone in self.lr_milestones)


@dataclass(kw_only=True)
class PretrainConfig(TrainConfig):
    """Settings of pretraining. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        exchange_from: The first epoch of phase 2; a number beyond `epochs` leaves phase 2 out.
        model: The sizes of the model and the constants of its losses.
    """

    exchange_from: int = setting(151, least=1)
    model: ModelConfig = field(default_factory=ModelConfig)

    def problem(self) -> str | None:
        """Say where phase 2 will come and cannot be computed, or None."""
        if self.exchange_from <= self.epochs and len(self.model.modalities) < 2:
            return (
                f"model.modalities: expected at least two, which exchange in phase 2 from epoch "
                f"{self.exchange_from} on, found {list(self.model.modalities)!r}; name more, or make "
                f"--exchange-from larger than --epochs, which is {self.epochs}"
            )
        return None


@dataclass(kw_only=True)
class DistillConfig(TrainConfig):
    """Settings of distillation. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        teacher: The checkpoint of a pretraining run, or its folder.
        temperature: The temperature of the loss.
        students: The modalities distilled into.
        teacher_mode: With eval the teacher is frozen whole; train keeps its dropout running, as published.
    """

    teacher: Path
    temperature: float = setting(0.07, above=0)
    epochs: int = setting(150, least=1)
    lr_milestones: tuple[int, ...] = setting((125,), least=1, rising=True)
    students: tuple[str, ...] = setting(("joint", "motion", "bone"), choices=MODALITIES)
    teacher_mode: Literal["eval", "train"] = "eval"
