"""joint: the coordinates themselves."""

from ikem_fast.ops.modalities.base import Modality

JOINT = Modality(lambda bodies: bodies.x, "where each joint is", mark="trail")
