"""NTU RGB+D: `.skeleton` files, their names, the choice of two bodies, the four evaluation protocols.

Shahroudy et al., "NTU RGB+D: A Large Scale Dataset for 3D Human Activity Analysis" (CVPR 2016); Liu et al.,
"NTU RGB+D 120" (TPAMI 2019). Text is parsed in C++ (`csrc/skeleton/skeleton_parser.h`) where that is built,
otherwise by the reader below: the same grammar, the same arrays, the same errors.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError

try:
    from ikem_fast import _skeleton_io
except ImportError:  # installed without a compiler
    _skeleton_io = None

LAYOUT = "ntu-rgb+d"
NUM_JOINTS = 25
NUM_BODIES = 2  # of a clip; the sensor tracks up to six
MAX_FILE_BYTES = 1 << 26  # the largest of the dataset has 2 MB

BodyChoice = Literal["motion", "file-order"]


@dataclass(frozen=True, eq=False)
class Skeletons:
    """What a `.skeleton` file holds: R records, one for each body of each frame, in the order of the file.

    num_frames: F.
    frame: (R,) int32, the frame of each record.
    tracking_id: (R,) uint64, the sensor's name for the body; a person lost and found again gets another.
    joints: (R, 25, 3) float32, metres.
    """

    num_frames: int
    frame: np.ndarray
    tracking_id: np.ndarray
    joints: np.ndarray

    def bodies(self):
        """{tracking id: (frames (F',), joints (F', 25, 3))}, in the order in which they appear."""
        ids = list(dict.fromkeys(self.tracking_id.tolist()))
        if len(ids) == 1:
            return {ids[0]: (self.frame, self.joints)}
        mine = {body: self.tracking_id == body for body in ids}
        return {body: (self.frame[rows], self.joints[rows]) for body, rows in mine.items()}

    def clip(self, bodies: BodyChoice = "motion"):
        """(3, F, 25, 2) float32: two of the bodies, zero where one is not tracked.

        bodies: "motion": tracks (one for each tracking id) in the order of falling motion energy, the sum of
            squared distances of all joints from their mean over the track's frames; each takes the first of
            the two places that is free from its first to its last frame, so that a person who was lost and
            found again stays one body. "file-order": in each frame, the first two as the file lists them, as
            the published code does.
        """
        clip = np.zeros((NUM_BODIES, 3, self.num_frames, NUM_JOINTS), dtype=np.float32)
        if bodies == "file-order":
            place = np.arange(len(self.frame)) - np.searchsorted(self.frame, self.frame)
            for m in range(NUM_BODIES):
                clip[m][:, self.frame[place == m]] = self.joints[place == m].transpose(2, 0, 1)
        elif bodies == "motion":
            self._place_tracks(clip)
        else:
            raise ValueError(f"bodies: expected 'motion' or 'file-order', found {bodies!r}")
        return clip.transpose(1, 2, 3, 0)

    def _place_tracks(self, clip):
        taken = [[] for _ in range(NUM_BODIES)]  # of each place: (first, last) frames of its tracks
        tracks = list(self.bodies().values())
        if len(tracks) > 1:
            tracks.sort(key=lambda track: -_motion_energy(track[1]))
        for frames, joints in tracks:
            first, last = frames[0], frames[-1]
            for place, spans in enumerate(taken):
                if all(last < start or end < first for start, end in spans):
                    spans.append((first, last))
                    clip[place][:, frames] = joints.transpose(2, 0, 1)
                    break


def _motion_energy(joints):
    """Of one track (F', 25, 3)."""
    return float(np.square(joints - joints.mean(axis=0), dtype=np.float64).sum())


def read_skeleton(path):
    """Read one `.skeleton` file into `Skeletons`.

    Raises InputError naming the file, the line, what was expected there and what was found.
    """
    path = Path(path)
    try:
        return parse_skeleton(SourceFile(path).read(MAX_FILE_BYTES))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def parse_skeleton(text):
    """Parse the bytes of a `.skeleton` file into `Skeletons`. Raises ValueError naming the line."""
    return Skeletons(*(_skeleton_io.parse if _skeleton_io else parse_in_python)(text))


_MAX_FRAMES = 1 << 16
_MAX_BODIES = 6
_MAX_NUMBER_LENGTH = 32
_MAX_QUOTED = 40
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
# Repetitions are bounded so that no text makes a match take long.
_INTEGER = rb"(-?\d{1,32})"
_DECIMAL = rb"(-?(?:\d{1,32}(?:\.\d{0,32})?|\.\d{1,32})(?:[eE][+-]?\d{1,32})?)"
_OTHERS = rb"(?:[ \t\r]+[+-9eE]+)"  # not read, so that it only has to look like numbers
_COUNT_LINE = re.compile(rb"[ \t\r]*" + _INTEGER + rb"[ \t\r]*")
_BODY_LINE = re.compile(rb"[ \t\r]*(\d{1,32})" + _OTHERS + rb"{9}[ \t\r]*")
_JOINT_LINE = re.compile(
    rb"[ \t\r]*" + _DECIMAL + rb"[ \t\r]+" + _DECIMAL + rb"[ \t\r]+" + _DECIMAL + _OTHERS + rb"{9}[ \t\r]*"
)


class _Lines:
    """The lines of a text, each matched against what it should be."""

    def __init__(self, text):
        self.lines = text.split(b"\n")
        if not self.lines[-1]:
            self.lines.pop()  # the end of the last line, not another one
        self.number = 0

    def fail(self, expected):
        found = "the end of the file"
        if self.number <= len(self.lines):
            line = self.lines[self.number - 1]
            shown = "".join(chr(c) if 32 <= c <= 126 else "?" for c in line[:_MAX_QUOTED])
            found = f"'{shown}{'...' if len(line) > _MAX_QUOTED else ''}'"
        raise ValueError(f"line {self.number}: expected {expected}, found {found}")

    def match(self, pattern, expected):
        self.number += 1
        match = self.number <= len(self.lines) and pattern.fullmatch(self.lines[self.number - 1])
        if not match or max(map(len, match.groups())) > _MAX_NUMBER_LENGTH:
            self.fail(expected)
        return match.groups()

    def count(self, expected, least, most):
        value = int(self.match(_COUNT_LINE, expected)[0])
        if not least <= value <= most:
            self.fail(expected)
        return value

    def tracking_id(self):
        expected = "10 numbers of a body"
        value = int(self.match(_BODY_LINE, expected)[0])
        if value >= 1 << 64:
            self.fail(expected)
        return value

    def coordinates(self):
        expected = "12 finite numbers of a joint"
        xyz = [float(number) for number in self.match(_JOINT_LINE, expected)]
        if max(map(abs, xyz)) > _MAX_FLOAT32:
            self.fail(expected)
        return xyz

    def end(self):
        while self.number < len(self.lines):
            self.number += 1
            if self.lines[self.number - 1].strip(b" \t\r"):
                self.fail("the end of the file")


def parse_in_python(text):
    """What `_skeleton_io.parse` does, for where that is not built."""
    lines = _Lines(text)
    frame, tracking_id, joints = [], [], []
    num_frames = lines.count("a frame count from 0 to 65536", 0, _MAX_FRAMES)
    for index in range(num_frames):
        for _ in range(lines.count("a body count from 0 to 6", 0, _MAX_BODIES)):
            frame.append(index)
            tracking_id.append(lines.tracking_id())
            lines.count("the joint count 25", NUM_JOINTS, NUM_JOINTS)
            joints.append(np.array([lines.coordinates() for _ in range(NUM_JOINTS)], dtype=np.float32))
    lines.end()
    return (
        num_frames,
        np.array(frame, dtype=np.int32),
        np.array(tracking_id, dtype=np.uint64),
        np.array(joints, dtype=np.float32).reshape(-1, NUM_JOINTS, 3),
    )


class ClipName(NamedTuple):
    """The parts of a name such as S001C002P003R002A013."""

    setup: int
    camera: int
    subject: int
    replication: int
    action: int


_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)


def parse_name(name):
    """The `ClipName` of a file's name without `.skeleton`, or None if it is not one."""
    match = _NAME.fullmatch(name)
    return ClipName(*map(int, match.groups())) if match else None


def read_skip_list(path):
    """The names in a list of samples to leave out, one a line; headings and `.skeleton` after a name may be.

    Raises InputError if the file cannot be read or has no such name in it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a list of clip names, found: {error}") from None
    names = {line.removesuffix(".skeleton") for line in lines}
    names = {name for name in names if parse_name(name)}
    if not names:
        raise InputError(f"{path}: expected names such as S001C002P005R002A008, one a line, found none")
    return names


@dataclass(frozen=True)
class Protocol:
    """Actions A001 … A<num_actions>, and which values of which part of a name make a clip a training clip."""

    num_actions: int
    part: Literal["setup", "camera", "subject"]
    train: frozenset[int]

    def has(self, name: ClipName | None):
        """Whether a clip is one of the protocol's; a file whose name says nothing (None) may be."""
        return name is None or 1 <= name.action <= self.num_actions

    def split(self, name: ClipName):
        return "train" if getattr(name, self.part) in self.train else "test"


_SUBJECTS_60 = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_SUBJECTS_120 = (
    *_SUBJECTS_60,
    *(45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92),
    *(93, 94, 95, 97, 98, 100, 103),
)

ProtocolName = Literal["ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset"]
PROTOCOLS: dict[ProtocolName, Protocol] = {
    "ntu60-xsub": Protocol(60, "subject", frozenset(_SUBJECTS_60)),
    "ntu60-xview": Protocol(60, "camera", frozenset({2, 3})),
    "ntu120-xsub": Protocol(120, "subject", frozenset(_SUBJECTS_120)),
    "ntu120-xset": Protocol(120, "setup", frozenset(range(2, 33, 2))),
}

# A001 … A120; A050 … A060 and A106 … A120 are between two people.
ACTIONS = (
    "drink water", "eat meal", "brush teeth", "brush hair", "drop", "pick up", "throw", "sit down",
    "stand up", "clap", "read", "write", "tear up paper", "put on jacket", "take off jacket",
    "put on a shoe", "take off a shoe", "put on glasses", "take off glasses", "put on a hat",
    "take off a hat", "cheer up", "wave hand", "kick something", "reach into pocket", "hop", "jump up",
    "phone call", "play with phone", "type on a keyboard", "point to something", "take a selfie",
    "check time", "rub two hands", "nod head", "shake head", "wipe face", "salute",
    "put palms together", "cross hands in front", "sneeze or cough", "stagger", "fall down", "headache",
    "chest pain", "back pain", "neck pain", "nausea or vomiting", "fan oneself", "punch or slap",
    "kick the other", "push the other", "pat on the back", "point at the other", "hug",
    "give an object", "touch pocket", "shake hands", "walk towards", "walk apart", "put on headphones",
    "take off headphones", "shoot at the basket", "bounce ball", "tennis bat swing",
    "juggle table tennis balls", "hush", "flick hair", "thumb up", "thumb down", "make OK sign",
    "make victory sign", "staple book", "count money", "cut nails", "cut paper", "snap fingers",
    "open bottle", "sniff", "squat down", "toss a coin", "fold paper", "ball up paper",
    "play magic cube", "apply cream on face", "apply cream on hand", "put on bag", "take off bag",
    "put something into a bag", "take something out of a bag", "open a box", "move heavy objects",
    "shake fist", "throw up hat", "hands up", "cross arms", "arm circles", "arm swings",
    "run on the spot", "butt kicks", "cross toe touch", "side kick", "yawn", "stretch oneself",
    "blow nose", "hit with an object", "wield knife", "knock over", "grab the other's stuff",
    "shoot with a gun", "step on foot", "high-five", "cheers and drink", "carry something together",
    "take a photo", "follow the other", "whisper in the ear", "exchange things", "support with a hand",
    "rock-paper-scissors",
)  # fmt: skip
