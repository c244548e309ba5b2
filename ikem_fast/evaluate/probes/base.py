"""What a probe is: it learns from examples, and then gives any clips scores of the classes.

To add one: a file beside this one with a function `fit_NAME` (examples and sets → `Fitted` of each set), a
line in `choice`, a test. A probe learns from training clips alone; `sgd` may be shown others to tell
how they fare, epoch by epoch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

Sets = Mapping[str, list[int]]  # name of a set → positions of its modalities among those that there are
Scorer = Callable[[torch.Tensor], torch.Tensor]  # features (N,P,H) of all modalities → (N,C) scores


@dataclass(frozen=True)
class Examples:
    """Clips by their features, with what is known of them.

    x: (N,P,H) features of P modalities, float32 or bfloat16. y: (N,) int64 classes, 0 … classes − 1.
    subjects: (N,) unicode, who was recorded; None if that is not known.
    """

    x: torch.Tensor
    y: torch.Tensor
    classes: int
    subjects: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Head:
    """A linear classifier of S modalities: scores = (features side by side) @ weight / S + bias.

    weight: (S·H,C) float32. bias: (C,) float32.
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Score features of the S modalities alone, (N,S,H): (N,C) float32."""
        weight, bias = self.weight.to(x.device), self.bias.to(x.device)
        return x.flatten(1).float() @ weight / x.shape[1] + bias


@dataclass(frozen=True)
class Fitted:
    """What a probe learned of one set of modalities.

    scores: features (N,P,H) of all modalities → (N,C) scores.
    head: the same as a linear map of the set's features, where it is one.
    chosen: what cross-validation over the training clips chose, and the accuracy in percent that it found.
    curves: each epoch's loss and accuracy on watched clips, of a probe that is trained in epochs.
    diverged: how its training went astray, if it did.
    left_out: (N,C) scores of the training clips, each by a fit without the fold that it is in, of a probe
        that makes such fits.
    """

    scores: Scorer
    head: Head | None = None
    chosen: dict[str, float] = field(default_factory=dict)
    curves: tuple[list[float], list[float]] | None = None
    diverged: str | None = None
    left_out: torch.Tensor | None = None


Probe = Callable[[Examples, Sets], dict[str, Fitted]]


def of_head(head: Head, columns: list[int], **more: object) -> Fitted:
    """Make the `Fitted` of a linear classifier of the modalities at `columns`."""
    return Fitted(lambda x: head.scores(x[:, columns]), head, **more)
