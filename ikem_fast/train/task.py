"""What a run trains: the seam between the loop, which knows no model, and the models."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ikem_fast.nn.config import ModelConfig
from ikem_fast.train.budget import Progress

Gather = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Batch:
    """What a step is given: this process's share of a batch.

    clips: (n,3,T,V,M) float32. frames: (n,) frame counts of the clips before resampling.
    views: the parameters of two augmented views, as `ops.derive_modalities` takes them:
        {"shear": (n,3,3), "crop_start": (n,)}, either or both left out.
    """

    clips: torch.Tensor
    frames: torch.Tensor
    views: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]

    def tensors(self) -> list[torch.Tensor]:
        """List every tensor, in the same order for every batch of a run."""
        return [self.clips, self.frames, *(view[name] for view in self.views for name in sorted(view))]

    def clone(self) -> "Batch":
        """Copy it, tensors and all."""
        views = tuple({name: values.clone() for name, values in view.items()} for view in self.views)
        return replace(self, clips=self.clips.clone(), frames=self.frames.clone(), views=views)


class Task(ABC):
    """A model, its losses of a batch, and what is particular about training it.

    Attributes:
        kind: what a checkpoint of it is called.
        model: on its device; parameters that require a gradient are trained.
        model_config: `ModelConfig` that the model can be built from again; a checkpoint names it.
        names: of the L losses.
    """

    kind: ClassVar[str]
    model: nn.Module
    model_config: ModelConfig
    names: tuple[str, ...]

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

    def check(self, clips: int) -> None:  # noqa: B027 (not every task has something to check)
        """Raise InputError where batches of `clips`, of all processes together, cannot be trained on."""

    def check_resumed(self, state: dict[str, Any], path: Path) -> None:  # noqa: B027
        """Raise InputError where a checkpoint's run differs in what its settings do not tell."""
