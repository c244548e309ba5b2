"""Every setting of a training run: one definition, for YAML files, the command line and Python alike."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ikem_fast.nn.config import ModelConfig

PUBLISHED_BATCH = 128


@dataclass(kw_only=True)
class TrainConfig:
    """Settings that pretraining and distillation share.

    Args:
        data: folder of a prepared dataset.
        out: folder for checkpoint, metrics and TensorBoard scalars.
        epochs: how many.
        batch_size: clips in a step, of all processes together.
        lr: learning rate of SGD.
        lr_scaling: none takes lr as it is; linear multiplies it by batch_size / 128, the published batch.
        lr_milestones: epochs after which the learning rate is multiplied by 0.1.
        sgd_momentum: of SGD.
        weight_decay: of SGD.
        shear_amplitude: largest off-diagonal entry of the random shear; 0 for none.
        temporal_crop: whether views are random windows of the mirror-padded clip.
        fresh_augmentation: draw augmentations anew each epoch; the published code repeats the first's.
        drop_last: leave out the last, smaller batch of an epoch.
        sync_bn: take normalisation statistics from the batches of all processes, not from each one's share.
        amp: automatic mixed precision, bfloat16 where that is safe.
        compile: whether torch.compile makes the encoders faster; max searches longer for the fastest kernels.
        cuda_graph: replay whole steps from a CUDA graph, on a GPU; an epoch's last, smaller batch runs as
            without.
        device: cpu, cuda, cuda:1, …; auto takes a GPU where there is one. Under torchrun, auto and cuda give
            each process of a machine its own.
        seed: of weights, order, augmentation and dropout.
        resume: go on from the checkpoint in `out`.
    """

    data: Path
    out: Path
    epochs: int = 300
    batch_size: int = 128
    lr: float = 0.1
    lr_scaling: Literal["none", "linear"] = "none"
    lr_milestones: tuple[int, ...] = (250,)
    sgd_momentum: float = 0.9
    weight_decay: float = 1e-4
    shear_amplitude: float = 0.5
    temporal_crop: bool = True
    fresh_augmentation: bool = True
    drop_last: bool = False
    sync_bn: bool = False
    amp: bool = False
    compile: Literal["off", "on", "max"] = "off"
    cuda_graph: bool = False
    device: str = "auto"
    seed: int = 0
    resume: bool = False

    def learning_rate(self, epoch):
        """Of epoch 1, 2, …: `lr`, scaled as `lr_scaling` says, times 0.1 for every milestone passed."""
        scale = self.batch_size / PUBLISHED_BATCH if self.lr_scaling == "linear" else 1
        return self.lr * scale * 0.1 ** sum(epoch > milestone for milestone in self.lr_milestones)


@dataclass(kw_only=True)
class PretrainConfig(TrainConfig):
    """Settings of pretraining. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        exchange_from: first epoch of phase 2; beyond `epochs` for none.
        model: sizes of the model and constants of its losses.
    """

    exchange_from: int = 151
    model: ModelConfig = field(default_factory=ModelConfig)


@dataclass(kw_only=True)
class DistillConfig(TrainConfig):
    """Settings of distillation. Source of the defaults: arXiv 2309.12009, section 4.2.

    Args:
        teacher: checkpoint of a pretraining run.
        temperature: of the loss.
        students: modalities distilled into.
        teacher_mode: eval freezes the teacher whole; train keeps its dropout running, as published.
    """

    teacher: Path
    temperature: float = 0.07
    epochs: int = 150
    lr_milestones: tuple[int, ...] = (125,)
    students: tuple[str, ...] = ("joint", "motion", "bone")
    teacher_mode: Literal["eval", "train"] = "eval"
