"""What a run trains: the seam between the loop, which knows no model, and the models."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ikem_fast.data.loader import BatchLoader
from ikem_fast.nn.config import ModelConfig
from ikem_fast.runtime.processes import Processes
from ikem_fast.train.budget import Progress


@dataclass(frozen=True)
class Seen:
    """What a step saw, for the figures of a run's health; without gradients.

    queries, keys: (L,n,D) features that losses compare.
    features: (L,n,H) pooled features, which is what an evaluation takes.
    """

    queries: torch.Tensor
    keys: torch.Tensor
    features: torch.Tensor


Gather = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class View:
    """One augmented view of a batch's clips.

    clips: (n,3,T,V,M) float32.
    augmentation: what is left for `ops.derive_modalities` to do: {"shear": (n,3,3), "crop_start": (n,)},
        either or both left out.
    """

    clips: torch.Tensor
    augmentation: dict[str, torch.Tensor] = field(default_factory=dict)

    def tensors(self) -> list[torch.Tensor]:
        """List every tensor, in the same order for every view of a run."""
        return [self.clips, *(self.augmentation[name] for name in sorted(self.augmentation))]

    def clone(self) -> "View":
        """Copy it, tensors and all."""
        return View(self.clips.clone(), {name: value.clone() for name, value in self.augmentation.items()})


@dataclass(frozen=True)
class Batch:
    """What a step is given: this process's share of a batch.

    query, key: two views of the same clips.
    frames: (n,) frame counts of the clips before resampling.
    """

    query: View
    key: View
    frames: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """List every tensor, in the same order for every batch of a run."""
        return [*self.query.tensors(), *self.key.tensors(), self.frames]

    def clone(self) -> "Batch":
        """Copy it, tensors and all."""
        return Batch(self.query.clone(), self.key.clone(), self.frames.clone())


class Task(ABC):
    """A model, its losses of a batch, and what is particular about training it.

    Attributes:
        kind: what a checkpoint of it is called.
        model: on its device; parameters that require a gradient are trained.
        model_config: `ModelConfig` that the model can be built from again; a checkpoint names it.
        names: of the L losses.
        seen: of the last step. A replayed step changes what is in it.
    """

    kind: ClassVar[str]
    model: nn.Module
    model_config: ModelConfig
    names: tuple[str, ...]
    seen: Seen | None = None

    @abstractmethod
    def losses(self, batch: Batch, phase: str, gather: Gather) -> torch.Tensor:
        """Compute the losses (L,), means over the clips of `batch`.

        Args:
            batch: this process's share.
            phase: of the step; the work of a phase is the same in every step, or it could not be captured.
            gather: turns rows (P,n,D), one a clip of this share, into those of all processes.
        """

    @abstractmethod
    def phase(self, progress: Progress) -> str:
        """Name the phase of the step to come."""

    @abstractmethod
    def chance(self, phase: str) -> float:
        """Compute the loss of features that tell no clip from another: all similarities are 0."""

    @abstractmethod
    def negatives(self) -> torch.Tensor:
        """Average, for each loss, the unit features that its queries are to differ from: (L,D)."""

    def begin(self, loader: BatchLoader, processes: Processes) -> None:  # noqa: B027
        """Do what is to be done once, ahead of a run's first step."""

    def advance(self, progress: Progress) -> None:  # noqa: B027
        """Set what changes from step to step, ahead of one."""

    def check(self, clips: int) -> None:  # noqa: B027 (not every task has something to check)
        """Raise InputError where batches of `clips`, of all processes together, cannot be trained on."""

    def check_resumed(self, state: dict[str, Any], path: Path) -> None:  # noqa: B027
        """Raise InputError where a checkpoint's run differs in what its settings do not tell."""
