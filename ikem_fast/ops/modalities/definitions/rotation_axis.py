"""rotation_axis: r_v = b_v × b_{axis(v)}."""

from ikem_fast.ops.modalities.base import Modality
from ikem_fast.ops.modalities.kinematics import cross


def derive(bodies):
    bones = bodies.bones()
    return cross(bones, bodies.along_axes(bones))


ROTATION_AXIS = Modality(derive, "what it bends about", needs_torso=True)
