"""A procedural dataset: simulated people act before a simulated depth sensor, by forward kinematics.

Twelve actions of a 25-joint body (NTU RGB+D's joints), two of them by two people. Several differ by direction
or timing alone (sitting down and standing up; circling clockwise and counter-clockwise; punching out and
pulling in), so that poses without their order say little. Subjects differ in proportions, speed, manner and
handedness; clips in viewpoint, skewed axes, noise, joints that the sensor has to guess and frames that it
loses.

A body looks along −z, towards the sensor: x to its right, y up, z away from the sensor; metres and radians.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

VERSION = 2  # of the clips that a seed gives: raise it with every change of what is generated

# Difficulty. What tells clips of one action apart is above all the sensor (SKEW, TILT), which the training's
# random shears teach an encoder to look past; random weights do not.
SUBJECTS = 24  # every third one is a test subject
MIN_FRAMES, MAX_FRAMES = 50, 100
PROPORTIONS = 0.04  # relative standard deviation of a subject's bone lengths
MANNER = 0.1  # relative standard deviation of how wide a movement is
POSTURE = 0.02  # radians: how a subject holds the arms, and STIFF of that all else
IDLE = 0.015  # radians: slow movement that belongs to no action, in the same shares
STIFF = 0.4
BUSY = 0.05  # how often the other arm moves to a pose of its own
YAW, TILT = 0.8, 0.3  # radians: how far the sensor stands aside of the person, or looks up or down
SKEW = 0.3  # how far a sensor's axes lean into each other: entries beside the diagonal of a matrix
NOISE = 0.003  # metres: standard deviation of a measured joint, twice that at hands and feet
GUESSED = 0.02  # part of the time that a joint is hidden, and stays where it was last seen
LOST = 0.01  # part of the frames in which a body is not found

# Forward kinematics starts at the base of the spine: (joint, parent, offset from it with arms hanging).
_LEFT_ARM, _RIGHT_ARM = (4, 5, 6), (8, 9, 10)  # shoulder, elbow, wrist
_LEFT_LEG, _RIGHT_LEG = (12, 13, 14), (16, 17, 18)  # hip, knee, ankle
_SKELETON = (
    (1, 0, (0, 0.26, 0)), (20, 1, (0, 0.24, 0)), (2, 20, (0, 0.07, 0)), (3, 2, (0, 0.16, -0.03)),
    (4, 20, (-0.17, -0.04, 0)), (5, 4, (0, -0.28, 0)), (6, 5, (0, -0.25, 0)), (7, 6, (0, -0.08, 0)),
    (21, 7, (0, -0.09, 0)), (22, 7, (0.01, -0.05, -0.05)),
    (8, 20, (0.17, -0.04, 0)), (9, 8, (0, -0.28, 0)), (10, 9, (0, -0.25, 0)), (11, 10, (0, -0.08, 0)),
    (23, 11, (0, -0.09, 0)), (24, 11, (-0.01, -0.05, -0.05)),
    (12, 0, (-0.09, -0.03, 0)), (13, 12, (0, -0.42, 0)), (14, 13, (0, -0.40, 0)), (15, 14, (0, -0.06, -0.12)),
    (16, 0, (0.09, -0.03, 0)), (17, 16, (0, -0.42, 0)), (18, 17, (0, -0.40, 0)), (19, 18, (0, -0.06, -0.12)),
)  # fmt: skip
_NUM_JOINTS = 25
_LIMBS = ((1, 20, 2, 3), (4, 8), (5, 6, 7, 9, 10, 11, 21, 22, 23, 24), (12, 16), (13, 14, 15, 17, 18, 19))
_ENDS = (7, 11, 15, 19, 21, 22, 23, 24)  # joints that a sensor measures worst
_FEET = (14, 15, 18, 19)
_WAIST, _SPINE, _CHEST, _NECK = 0, 1, 20, 2


class _Motion:
    """Joint angles of one body over T frames, added up by actions.

    angles: (T, 25, 4): flex (about x), side (about z) and turn (about y) swing what hangs down from a joint
    forwards and to the right, and what points forwards to the left; roll turns it about itself first. A
    joint's angles move all joints beyond it.
    """

    def __init__(self, frames):
        self.angles = np.zeros((frames, _NUM_JOINTS, 4))

    def add(self, joint, *, flex=0.0, side=0.0, turn=0.0, roll=0.0):
        for axis, angle in enumerate((flex, side, turn, roll)):
            self.angles[:, joint, axis] += angle

    def arm(self, arm, *, flex=0.0, outward=0.0, inward=0.0, roll=0.0, elbow=0.0):
        """The same for both arms: outward lifts to the arm's own side, inward and roll turn to the other."""
        sign = 1 if arm is _RIGHT_ARM else -1
        self.add(arm[0], flex=flex, side=sign * outward, turn=sign * inward, roll=sign * roll)
        self.add(arm[1], flex=elbow)

    def legs(self, *, hip=0.0, knee=0.0):
        for leg in (_LEFT_LEG, _RIGHT_LEG):
            self.add(leg[0], flex=hip)
            self.add(leg[1], flex=-knee)
            self.add(leg[2], flex=knee - hip)

    def bend(self, angle):
        """Bend the trunk forwards over standing legs."""
        self.add(_WAIST, flex=-0.5 * angle)
        self.legs(hip=0.5 * angle)
        for joint in (_SPINE, _CHEST):
            self.add(joint, flex=-0.25 * angle)


def _rise(u, start, end):
    """0 before `start`, 1 after `end`, smooth between."""
    v = np.clip((u - start) / (end - start), 0, 1)
    return v * v * (3 - 2 * v)


def _hold(u, start, up, down, end):
    """0, then 1 between `up` and `down`, then 0 again."""
    return _rise(u, start, up) - _rise(u, down, end)


@dataclass(frozen=True)
class _Style:
    """How one person does one action: arm used, width, beats (repetitions), phase."""

    arm: tuple[int, int, int]
    width: float
    beats: int
    phase: float

    @property
    def other_arm(self):
        return _LEFT_ARM if self.arm is _RIGHT_ARM else _RIGHT_ARM


def _raise_hand(motion, u, style, swing=0.0):
    up = _hold(u, 0, 0.25, 0.75, 1)
    motion.arm(style.arm, outward=1.1 * up, roll=-1.4 * up, elbow=(1.3 + swing) * up * style.width)


def _wave_hand(motion, u, style):
    _raise_hand(motion, u, style, swing=0.45 * np.sin(2 * np.pi * (style.beats + 1) * u + style.phase))


def _circle_arm(motion, u, style, direction):
    up = _hold(u, 0, 0.2, 0.8, 1)
    angle = direction * 2 * np.pi * (style.beats * u) + style.phase
    to_the_left = -0.45 * np.sin(angle) * up * style.width  # as seen by the person, whichever the arm
    sign = 1 if style.arm is _RIGHT_ARM else -1
    motion.arm(style.arm, flex=1.3 * up + 0.45 * np.cos(angle) * up * style.width, elbow=0.2 * up,
               inward=sign * to_the_left)  # fmt: skip


def _sit(motion, seated, style):
    motion.legs(hip=1.45 * seated, knee=1.45 * seated)
    motion.bend(0.9 * style.width * 4 * seated * (1 - seated))
    for arm in (_LEFT_ARM, _RIGHT_ARM):
        motion.arm(arm, flex=0.35 * seated, elbow=0.6 * seated)


def _reach(motion, u, style, out):
    """Reach and come back once a beat: the first `out` of it outwards, the rest back."""
    ready = _hold(u, 0, 0.15, 0.85, 1)
    beat = (u * style.beats) % 1
    reach = (_rise(beat, 0, out) - _rise(beat, out, 1)) * style.width
    motion.arm(style.arm, flex=ready * (0.1 + 1.35 * reach), elbow=ready * np.maximum(2.0 - 1.8 * reach, 0))
    motion.add(_CHEST, turn=(1 if style.arm is _RIGHT_ARM else -1) * 0.3 * ready * reach)


def _pick_up(motion, u, style):
    down = _hold(u, 0.05, 0.45, 0.55, 0.95) * style.width
    motion.bend(1.3 * down)
    motion.legs(hip=0.5 * down, knee=0.7 * down)
    motion.arm(style.arm, flex=1.1 * down, elbow=0.2 * down)


def _clap(motion, u, style):
    ready = _hold(u, 0, 0.2, 0.8, 1)
    apart = 0.5 + 0.5 * np.cos(2 * np.pi * (style.beats + 2) * u + style.phase)
    for arm in (_LEFT_ARM, _RIGHT_ARM):
        motion.arm(
            arm, flex=0.9 * ready, elbow=0.9 * ready, inward=ready * (0.45 - 0.5 * apart * style.width)
        )


def _shake_hands(motion, u, style):
    reach = _hold(u, 0, 0.25, 0.75, 1)
    shake = 0.16 * np.sin(2 * np.pi * (style.beats + 1) * u + style.phase) * _hold(u, 0.2, 0.3, 0.7, 0.8)
    motion.arm(_RIGHT_ARM, flex=(0.85 + shake) * reach * style.width, elbow=0.5 * reach + shake)
    motion.bend(0.12 * reach)


def _push(motion, u, style):
    ready, reach = _hold(u, 0.05, 0.3, 0.7, 0.95), _hold(u, 0.35, 0.45, 0.55, 0.75) * style.width
    for arm in (_LEFT_ARM, _RIGHT_ARM):
        motion.arm(arm, flex=0.3 * ready + 1.0 * reach, elbow=np.maximum(1.7 * ready - 1.5 * reach, 0))
    motion.bend(0.25 * reach)


def _be_pushed(motion, u, style):
    recoil = _hold(u, 0.42, 0.52, 0.55, 0.85) * style.width
    motion.bend(-0.4 * recoil)
    motion.add(_NECK, flex=-0.3 * recoil)
    for arm in (_LEFT_ARM, _RIGHT_ARM):
        motion.arm(arm, flex=0.6 * recoil, outward=0.3 * recoil, elbow=0.5 * recoil)


# Each action: what the first person does, and the second if there is one. u (T,) runs from 0 to 1.
ACTIONS = {
    "wave hand": (_wave_hand,),
    "raise hand": (_raise_hand,),
    "circle arm clockwise": (lambda motion, u, style: _circle_arm(motion, u, style, 1),),
    "circle arm counter-clockwise": (lambda motion, u, style: _circle_arm(motion, u, style, -1),),
    "sit down": (lambda motion, u, style: _sit(motion, _rise(u, 0.1, 0.9), style),),
    "stand up": (lambda motion, u, style: _sit(motion, 1 - _rise(u, 0.1, 0.9), style),),
    "punch": (lambda motion, u, style: _reach(motion, u, style, 0.2),),
    "pull": (lambda motion, u, style: _reach(motion, u, style, 0.8),),
    "pick up": (_pick_up,),
    "clap hands": (_clap,),
    "shake hands": (_shake_hands, _shake_hands),
    "push": (_push, _be_pushed),
}


@dataclass(frozen=True)
class SyntheticClip:
    """One clip to generate: `generate_clip` makes it of this and a seed."""

    label: int
    index: int

    @property
    def subject(self) -> int:
        """Who acts, from 0."""
        return self.index % SUBJECTS

    @property
    def split(self) -> str:
        """Where the clip goes: every third subject is for testing."""
        return "test" if self.subject % 3 == 2 else "train"

    @property
    def name(self) -> str:
        """What the clip is called."""
        return f"A{self.label + 1:03d}P{self.subject + 1:03d}R{self.index // SUBJECTS + 1:03d}"


def plan_clips(clips_per_class: int) -> list[SyntheticClip]:
    """List every clip of the dataset, in its order."""
    return [SyntheticClip(label, index) for index in range(clips_per_class) for label in range(len(ACTIONS))]


@dataclass(frozen=True)
class Subject:
    """A person, as every clip of theirs has them."""

    offsets: np.ndarray  # (25, 3): from each joint's parent to it, in the rest pose
    posture: np.ndarray  # (25, 4): angles added to every pose
    width: float
    speed: float
    left_handed: bool


@lru_cache(maxsize=2 * SUBJECTS)
def make_subject(subject: int, seed: int) -> Subject:
    """Draw a person's proportions and manner, the same for the same seed."""
    rng = np.random.default_rng((seed, 0, subject))
    offsets = np.zeros((_NUM_JOINTS, 3))
    for joint, _, offset in _SKELETON:
        offsets[joint] = offset
    for limb in _LIMBS:
        offsets[list(limb)] *= max(0.5, rng.normal(1, PROPORTIONS))
    posture = POSTURE * _symmetric(rng.normal(size=(_NUM_JOINTS, 4))) * _looseness()
    return Subject(
        offsets=offsets * rng.normal(1, 0.06),
        posture=posture,
        width=max(0.4, rng.normal(1, MANNER)),
        speed=rng.uniform(0.7, 1.3),
        left_handed=bool(rng.random() < 0.25),
    )


def _symmetric(angles):
    """Give the left limbs the right ones' angles, mirrored; angles (..., 25, 4)."""
    mirrored = angles.copy()
    for left, right in zip(_LEFT_ARM + _LEFT_LEG, _RIGHT_ARM + _RIGHT_LEG, strict=True):
        mirrored[..., left, :] = angles[..., right, :] * (1, -1, -1, -1)
    return mirrored


def generate_clip(clip: SyntheticClip, seed: int) -> np.ndarray:
    """Generate the raw clip (3, F, 25, 2) float32, in metres; a second body is zero in actions of one person.

    The same clip and seed give the same numbers, whatever else is generated.
    """
    rng = np.random.default_rng((seed, 1, clip.label, clip.index))
    actors = list(ACTIONS.values())[clip.label]
    partner = (clip.subject + 3 * rng.integers(1, SUBJECTS // 3)) % SUBJECTS  # of the same split
    subjects = [make_subject(int(subject), seed) for subject in (clip.subject, partner)][: len(actors)]
    duration = rng.uniform(MIN_FRAMES, MAX_FRAMES) / subjects[0].speed
    frames = int(np.clip(duration, MIN_FRAMES, MAX_FRAMES))
    start, end = rng.uniform(0, 0.25), rng.uniform(0.75, 1)
    u = np.clip((np.linspace(0, 1, frames) - start) / (end - start), 0, 1) ** np.exp(rng.normal(0, 0.15))
    bodies = [
        _place(_act(act, u, subject, rng), turned, distance)
        for act, subject, (turned, distance) in zip(actors, subjects, _positions(len(actors)), strict=True)
    ]
    if len(bodies) == 2 and rng.random() < 0.5:  # the sensor does not know who acts first
        bodies.reverse()
    raw = np.zeros((frames, _NUM_JOINTS, 3, 2), dtype=np.float32)
    view = _skew(rng) @ _rotation(np.array([rng.uniform(-TILT, TILT), 0, rng.uniform(-YAW, YAW)]))
    center = np.array([rng.uniform(-0.4, 0.4), rng.uniform(-0.9, -0.5), rng.uniform(2.5, 4)])
    for m, body in enumerate(bodies):
        raw[..., m] = _measure(body @ view.T + center, rng)
    return np.ascontiguousarray(raw.transpose(2, 0, 1, 3))


def _skew(rng):
    """(3, 3): what the coordinates of a sensor that was never calibrated are multiplied by."""
    skew = rng.uniform(-SKEW, SKEW, (3, 3))
    np.fill_diagonal(skew, 1)
    return skew


def _positions(people):
    """(turn about y, place along x) of each: one faces the sensor, two face each other."""
    return [(0.0, 0.0)] if people == 1 else [(-np.pi / 2, -0.45), (np.pi / 2, 0.45)]


def _act(act, u, subject, rng):
    """(T, 25, 3): one person doing one action, standing at the origin."""
    motion = _Motion(len(u))
    left_arm = subject.left_handed != (rng.random() < 0.15)  # now and then, the other hand
    style = _Style(
        arm=_LEFT_ARM if left_arm else _RIGHT_ARM,
        width=float(np.clip(subject.width * rng.normal(1, MANNER / 2), 0.4, 1.6)),
        beats=int(rng.integers(1, 4)),
        phase=rng.uniform(0, 2 * np.pi),
    )
    act(motion, u, style)
    if rng.random() < BUSY:
        start, end = np.sort(rng.uniform(0, 1, 2))
        busy = _hold(u, start - 0.1, start, end, end + 0.1)
        motion.arm(style.other_arm, flex=busy * rng.uniform(0, 1), outward=busy * rng.uniform(0, 0.5),
                   elbow=busy * rng.uniform(0, 1.8))  # fmt: skip
    motion.angles += subject.posture + _drift(rng, len(u))
    return _stand(_forward_kinematics(motion.angles, subject.offsets))


def _drift(rng, frames):
    """(T, 25, 4): slow, aimless movement of every joint: three sines below 0.8 Hz each."""
    seconds = np.arange(frames)[:, None, None, None] / 30
    shape = (_NUM_JOINTS, 4, 3)
    waves = np.sin(2 * np.pi * (rng.uniform(0.05, 0.8, shape) * seconds + rng.random(shape)))
    return IDLE * np.sqrt(2 / 3) * waves.sum(axis=-1) * _looseness()


def _looseness():
    """(25, 1): 1 for joints of the arms, STIFF for the rest, whose angles move the whole body."""
    loose = np.full((_NUM_JOINTS, 1), STIFF)
    loose[list(_LEFT_ARM + _RIGHT_ARM)] = 1
    return loose


def _rotation(angles):
    """(..., 3, 3): about x by flex, then y by turn, then z by side; angles (..., ≥ 3) as in `_Motion`."""
    (cx, cz, cy), (sx, sz, sy) = (np.moveaxis(f(angles), -1, 0)[:3] for f in (np.cos, np.sin))
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _forward_kinematics(angles, offsets):
    """(T, 25, 3) positions relative to the base of the spine, from angles (T, 25, 4) and offsets (25, 3)."""
    rolls = np.zeros((*angles.shape[:2], 3))
    rolls[..., 2] = angles[..., 3]
    local = _rotation(angles) @ _rotation(rolls)
    turned, positions = np.empty_like(local), np.zeros((*angles.shape[:2], 3))
    turned[:, _WAIST] = local[:, _WAIST]
    for joint, parent, _ in _SKELETON:
        turned[:, joint] = turned[:, parent] @ local[:, joint]
        positions[:, joint] = positions[:, parent] + turned[:, parent] @ offsets[joint]
    return positions


def _stand(positions):
    """Keep the feet where they are: the ankles around the origin, the lowest foot on the floor (y = 0)."""
    planted = positions[:, [_LEFT_LEG[2], _RIGHT_LEG[2]]].mean(axis=1, keepdims=True)
    planted[:, 0, 1] = positions[:, _FEET, 1].min(axis=1)
    return positions - planted


def _place(positions, turned, distance):
    return positions @ _rotation(np.array([0, 0, turned])).T + (distance, 0, 0)


def _measure(positions, rng):
    """What the sensor makes of a body (T, 25, 3): noise, joints frozen where last seen, frames without it."""
    frames = len(positions)
    spread = np.full(_NUM_JOINTS, NOISE)
    spread[list(_ENDS)] *= 2
    measured = positions + rng.normal(size=positions.shape) * spread[:, None]
    for joint, first, last in _episodes(rng, _NUM_JOINTS, frames, GUESSED, longest=16):
        measured[first:last, joint] = measured[first, joint]
    for _, first, last in _episodes(rng, 1, frames, LOST, longest=5):
        measured[first:last] = 0
    return measured


def _episodes(rng, kinds, frames, share, longest):
    """Yield (kind, first frame, end) of random stretches that cover about `share` of kinds × frames."""
    for _ in range(rng.poisson(share * kinds * frames / ((1 + longest) / 2))):
        first = int(rng.integers(0, frames))
        yield int(rng.integers(0, kinds)), first, first + int(rng.integers(1, longest + 1))
