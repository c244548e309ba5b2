"""The modalities that can be derived, a file each, and their table."""

from collections.abc import Iterable

from ikem_fast.errors import InputError
from ikem_fast.ops.modalities.base import Modality
from ikem_fast.ops.modalities.definitions.acceleration import ACCELERATION
from ikem_fast.ops.modalities.definitions.angular_velocity import ANGULAR_VELOCITY
from ikem_fast.ops.modalities.definitions.bone import BONE
from ikem_fast.ops.modalities.definitions.joint import JOINT
from ikem_fast.ops.modalities.definitions.motion import MOTION
from ikem_fast.ops.modalities.definitions.rotation_axis import ROTATION_AXIS
from ikem_fast.skeleton import Layout

# The six of the paper, `ikem_fast.MODALITIES`, are what is derived where none are named.
DEFINITIONS: dict[str, Modality] = {
    "joint": JOINT,
    "motion": MOTION,
    "bone": BONE,
    "acceleration": ACCELERATION,
    "rotation_axis": ROTATION_AXIS,
    "angular_velocity": ANGULAR_VELOCITY,
}


def derivable(layout: Layout) -> tuple[str, ...]:
    """Tell which modalities a layout has: without a torso, not those that need it."""
    return tuple(name for name, one in DEFINITIONS.items() if layout.torso is not None or not one.needs_torso)


def check_derivable(modalities: Iterable[str], layout: Layout) -> None:
    """Raise InputError where one of the modalities needs a torso and the layout has none."""
    there = derivable(layout)
    missing = [name for name in modalities if name not in there]
    if missing:
        raise InputError(
            f"modalities: expected a layout with a torso for {' and '.join(missing)}, found "
            f"{layout.name!r} without; add torso: [a, b, c] to the layout, or take modalities out of "
            f"{', '.join(there)}"
        )
