"""The text of a `.skeleton` file (NTU RGB+D) as arrays, and the choice of two bodies from it.

Text is parsed in C++ (`csrc/skeleton/skeleton_parser.h`) where that is built, otherwise by the reader below:
the same grammar, the same arrays, the same errors.
"""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ikem_fast.data.native import _skeleton_io
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError

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

    def bodies(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Gather {tracking id: (frames (F',), joints (F', 25, 3))}, in the order in which they appear."""
        ids, first, body, counts = np.unique(
            self.tracking_id, return_index=True, return_inverse=True, return_counts=True
        )
        rows = np.split(np.argsort(body, kind="stable"), np.cumsum(counts)[:-1])
        return {
            int(ids[body]): (self.frame[rows[body]], self.joints[rows[body]]) for body in np.argsort(first)
        }

    def clip(self, bodies: BodyChoice = "motion", count: int = NUM_BODIES) -> np.ndarray:
        """Make the raw clip (3, F, 25, M) float32 of M of the bodies, zero where one is not tracked.

        bodies: "motion": tracks (one for each tracking id) in the order of falling motion energy, the sum of
            squared distances of all joints from their mean over the track's frames; each takes the first of
            the places that is free from its first to its last frame, so that a person who was lost and
            found again stays one body. "file-order": in each frame, the first as the file lists them, as the
            published code does.
        count: M.

        Raises ValueError for another choice.
        """
        clip = np.zeros((count, 3, self.num_frames, NUM_JOINTS), dtype=np.float32)
        if bodies == "file-order":
            place = np.arange(len(self.frame)) - np.searchsorted(self.frame, self.frame)
            for m in range(count):
                clip[m][:, self.frame[place == m]] = self.joints[place == m].transpose(2, 0, 1)
        elif bodies == "motion":
            self._place_tracks(clip)
        else:
            raise ValueError(f"bodies: expected 'motion' or 'file-order', found {bodies!r}")
        return clip.transpose(1, 2, 3, 0)

    def _place_tracks(self, clip):
        taken = np.zeros((len(clip), self.num_frames), dtype=bool)
        tracks = list(self.bodies().values())
        if len(tracks) > 1:
            tracks.sort(key=lambda track: -_motion_energy(track[1]))
        for frames, joints in tracks:
            span = slice(frames[0], frames[-1] + 1)
            for place in range(len(clip)):
                if not taken[place, span].any():
                    taken[place, span] = True
                    clip[place][:, frames] = joints.transpose(2, 0, 1)
                    break


def _motion_energy(joints):
    """Of one track (F', 25, 3)."""
    return float(np.square(joints - joints.mean(axis=0), dtype=np.float64).sum())


def read_skeleton(path: str | Path) -> Skeletons:
    """Read one `.skeleton` file into `Skeletons`.

    Example:
        read_skeleton("S001C001P001R001A001.skeleton").clip()  # (3, F, 25, 2)

    Raises InputError naming the file, the line, what was expected there and what was found.
    """
    path = Path(path)
    try:
        return parse_skeleton(SourceFile(path).read(MAX_FILE_BYTES))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def parse_skeleton(text: bytes) -> Skeletons:
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
_STRANGER = re.compile(rb"[^ \t\r+-9eE]")
_COUNT_LINE = re.compile(rb"[ \t\r]*" + _INTEGER + rb"[ \t\r]*")
_BODY_LINE = re.compile(rb"[ \t\r]*(\d{1,32})" + _OTHERS + rb"{9}[ \t\r]*")
_JOINT_LINE = re.compile(
    rb"[ \t\r]*" + _DECIMAL + rb"[ \t\r]+" + _DECIMAL + rb"[ \t\r]+" + _DECIMAL + _OTHERS + rb"{9}[ \t\r]*"
)


class _Lines:
    """The lines of a text, each matched against what it should be."""

    def __init__(self, text):
        self.lines = text.removeprefix(codecs.BOM_UTF8).split(b"\n")
        if not self.lines[-1]:
            self.lines.pop()  # the end of the last line, not another one
        self.number = 0

    def fail(self, expected, which=""):
        found = "the end of the file"
        if self.number <= len(self.lines):
            found = which + _quoted(self.lines[self.number - 1])
        raise ValueError(f"line {self.number}: expected {expected}, found {found}")

    def fail_numbers(self, expected):
        """Of a line of several numbers, name the first item that none is written like."""
        line = self.lines[self.number - 1] if self.number <= len(self.lines) else b""
        for item, odd in enumerate(re.findall(rb"[^ \t\r]+", line), 1):
            if _STRANGER.search(odd):
                self.fail(expected, f"{_quoted(odd)} as item {item} of ")
        self.fail(expected)

    def match(self, pattern):
        """The groups of the next line, or None."""
        self.number += 1
        match = self.number <= len(self.lines) and pattern.fullmatch(self.lines[self.number - 1])
        if not match or max(map(len, match.groups())) > _MAX_NUMBER_LENGTH:
            return None
        return match.groups()

    def count(self, expected, least, most):
        groups = self.match(_COUNT_LINE)
        if groups is None or not least <= int(groups[0]) <= most:
            self.fail(expected)
        return int(groups[0])

    def tracking_id(self):
        groups = self.match(_BODY_LINE)
        if groups is None or int(groups[0]) >= 1 << 64:
            self.fail_numbers("10 numbers of a body")
        return int(groups[0])

    def coordinates(self):
        groups = self.match(_JOINT_LINE)
        xyz = [float(number) for number in groups or ()]
        if groups is None or max(map(abs, xyz)) > _MAX_FLOAT32:
            self.fail_numbers("12 finite numbers of a joint")
        return xyz

    def end(self):
        while self.number < len(self.lines):
            self.number += 1
            if self.lines[self.number - 1].strip(b" \t\r"):
                self.fail("the end of the file")


def parse_in_python(text: bytes) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Parse text as `_skeleton_io.parse` does, for where that is not built."""
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


def _quoted(text):
    shown = "".join(chr(c) if 32 <= c <= 126 else "?" for c in text[:_MAX_QUOTED])
    return f"'{shown}{'...' if len(text) > _MAX_QUOTED else ''}'"
