"""NTU RGB+D: one `.skeleton` file a clip, its name, the four evaluation protocols.

Shahroudy et al., "NTU RGB+D: A Large Scale Dataset for 3D Human Activity Analysis" (CVPR 2016); Liu et al.,
"NTU RGB+D 120" (TPAMI 2019). `data.skeletons` parses the files.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from operator import gt
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format, named_like
from ikem_fast.data.pipeline import PlannedClip, prepare_files
from ikem_fast.data.preparation import in_force
from ikem_fast.data.preprocess import Skipped
from ikem_fast.data.report import IN_SKIP_LIST
from ikem_fast.data.skeletons import MAX_FILE_BYTES, NUM_BODIES, BodyChoice, parse_skeleton, read_skeleton
from ikem_fast.data.sources import find_files
from ikem_fast.errors import InputError

LAYOUT = "ntu-rgb+d"
SUFFIX = ".skeleton"


class ClipName(NamedTuple):
    """The parts of a name such as S001C002P003R002A013, each from 1."""

    setup: int
    camera: int
    subject: int
    replication: int
    action: int


NUMBERS = ClipName(setup=32, camera=3, subject=106, replication=2, action=120)  # of each there are
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)


def parse_name(name: str) -> ClipName | None:
    """Parse a file's name without `.skeleton`; None if it is not one, or has a part that there is not."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    clip = ClipName(*map(int, match.groups()))
    return clip if 0 not in clip and not any(map(gt, clip, NUMBERS)) else None


def read_skip_list(path: str | Path) -> set[str]:
    """Read the names of samples to leave out, one a line; headings and `.skeleton` after a name may be.

    Raises InputError if the file cannot be read or has no such name in it.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split()
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

    def has(self, name: ClipName | None) -> bool:
        """Say whether a clip is one of the protocol's; a file whose name says nothing (None) may be."""
        return name is None or name.action <= self.num_actions

    def split(self, name: ClipName) -> str:
        """Say where a clip goes: train or test."""
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


def prepare_ntu(
    out: Path,
    source: Path,
    protocol: ProtocolName,
    skip_list: Path | None = None,
    bodies: BodyChoice = "motion",
    workers: int | None = None,
) -> Dataset:
    """Prepare NTU RGB+D or NTU RGB+D 120 from its .skeleton files.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder with the files or with .zip archives of them (searched to its depths), or one .zip.
        protocol: which actions, and which clips are for training.
        skip_list: file with the names of clips to leave out, one a line: the official lists of samples with
            missing or incomplete skeletons.
        bodies: how bodies (two, or num_bodies) are chosen where the sensor saw more or lost one: by motion
            energy over tracking ids, or the first of every frame as published.
        workers: processes that read files; as many as there are cores, if not given.
    """
    rules = PROTOCOLS[protocol]
    skipped = read_skip_list(skip_list) if skip_list else set()
    files = [file for file in find_files(source, SUFFIX) if rules.has(parse_name(file.stem))]
    if not files:
        raise InputError(f"{source}: expected files of actions A001 … A{rules.num_actions:03d}, found none")

    def plan(file):
        name = parse_name(file.stem)
        if name is None:
            return PlannedClip(str(file), skip=_NOT_NAMED)
        skip = IN_SKIP_LIST if file.stem in skipped else None
        return PlannedClip(file.stem, rules.split(name), name.action - 1, skip, str(name.subject))

    return prepare_files(
        files,
        plan,
        partial(_parse_clip, bodies=bodies),
        limit=MAX_FILE_BYTES,
        workers=workers,
        out=out,
        name=protocol,
        layout=LAYOUT,
        classes=ACTIONS[: rules.num_actions],
        num_bodies=NUM_BODIES,
        prepared={"from": "ntu", "protocol": protocol, "bodies": bodies, "skip_list": sorted(skipped)},
    )


_NOT_NAMED = Skipped(
    "expected a name such as S001C002P003R002A013.skeleton, of "
    + ", ".join(f"{part}s 1 … {most}" for part, most in NUMBERS._asdict().items())
)


def _parse_clip(content, bodies):
    """As many bodies as are chosen; where that is one, it is chosen of two, as everywhere."""
    count = max(in_force().preprocessing.num_bodies or NUM_BODIES, NUM_BODIES)
    return parse_skeleton(content).clip(bodies, count)


def _detect(path: Path) -> str:
    return named_like(path, SUFFIX, parse_name)


def _read(path: Path) -> Iterator[np.ndarray]:
    yield read_skeleton(path).clip()


NTU = Format(
    name="ntu",
    summary="Prepare NTU RGB+D (120) from .skeleton files.",
    example="ikem-fast prepare ntu --source raw/ --protocol ntu60-xsub --out data/ntu60",
    prepare=prepare_ntu,
    detect=_detect,
    read=_read,
    former={"skeletons": "source"},
    layout=LAYOUT,
)
