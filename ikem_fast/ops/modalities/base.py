"""What a modality is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ikem_fast.ops.modalities.kinematics import Bodies

Mark = Literal["trail", "stick", "arrow", "turn"]


@dataclass(frozen=True)
class Modality:
    """One modality of a clip: its formula, in plain torch, and how it is shown.

    derive: bodies (N,3,T,V,M) → (N,3,T,V,M). A body that is 0 stays 0, nothing becomes NaN, and a gradient
        comes back.
    tells: what it tells of a joint, in a few words.
    mark: how pictures draw it: "stick" from a joint's parent, "arrow" from the joint, "turn" as an arc around
        it, "trail" as the way that hands and feet came.
    needs_torso: whether it takes the torso's normal for the root's bone; not every layout has a torso.
    """

    derive: Callable[[Bodies], Tensor]
    tells: str
    mark: Mark = "arrow"
    needs_torso: bool = False
