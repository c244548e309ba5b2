"""motion: m_t = s (x_{t+1} − x_t)."""

from ikem_fast.ops.modalities.base import Modality

MOTION = Modality(lambda bodies: bodies.derivative(bodies.x), "where it goes next")
