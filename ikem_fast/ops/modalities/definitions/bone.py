"""bone: b_v = x_v − x_{parent(v)}; the root carries the torso's unit normal."""

from ikem_fast.ops.modalities.base import Modality

BONE = Modality(lambda bodies: bodies.bones(), "from its parent to it", mark="stick")
