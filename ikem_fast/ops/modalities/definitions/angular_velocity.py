"""angular_velocity: s (θ_{t+1} − θ_t) n(r)_t, θ the angle of b_v and b_{axis(v)}, r the rotation axis."""

import torch

from ikem_fast.ops.modalities.base import Modality
from ikem_fast.ops.modalities.definitions.rotation_axis import ROTATION_AXIS
from ikem_fast.ops.modalities.kinematics import cross, length, unit


def derive(bodies):
    directions = unit(bodies.bones())
    others = bodies.along_axes(directions)
    sine = length(cross(directions, others))
    cosine = (directions * others).sum(1, keepdim=True)
    # A zero bone has no direction and turns by nothing; atan2 has no gradient at (0, 0).
    undefined = (sine == 0) & (cosine == 0)
    angle = torch.atan2(sine, torch.where(undefined, torch.ones_like(cosine), cosine))
    return bodies.derivative(angle) * unit(ROTATION_AXIS.derive(bodies))


ANGULAR_VELOCITY = Modality(derive, "how fast it bends", mark="turn", needs_torso=True)
