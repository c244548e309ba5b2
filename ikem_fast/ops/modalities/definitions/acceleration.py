"""acceleration: s (m_{t+1} − m_t), m the motion."""

from ikem_fast.ops.modalities.base import Modality


def derive(bodies):
    second = bodies.derivative(bodies.derivative(bodies.x))
    second[:, :, max(second.shape[2] - 2, 0) :].zero_()  # the last motion is 0 for want of a successor
    return second


ACCELERATION = Modality(derive, "how its motion changes")
