"""PKU-MMD, both phases: long recordings in texts, a line a frame of two bodies, and label files.

    PKU_Skeleton_Renew/0002-L.txt        150 numbers a line
    Train_Label_PKU_final/0002-L.txt     action,first frame,last frame,confidence
    cross-subject.txt, cross-view.txt    names of training recordings, and of the others

A clip is what a line of a label file says. Liu et al., "PKU-MMD: A Large Scale Benchmark for Skeleton-Based
Human Action Understanding" (ACM MM Workshops 2017).
"""

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Literal

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.bodies import to_float32
from ikem_fast.data.formats.stream import examples
from ikem_fast.data.formats.text import as_rows
from ikem_fast.data.pipeline import PlannedClip, prepare_files
from ikem_fast.data.preprocess import Skipped
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError, printable

MAX_FILE_BYTES = 1 << 27  # the largest of the dataset has 15 MB
MAX_LIST_BYTES = 1 << 20
JOINTS, BODIES = 25, 2
NUMBERS = BODIES * JOINTS * 3
_RECORDING = re.compile(r"(\d{4}|A\d\dN\d\d)-[LMR]", re.ASCII)  # phase 1, phase 2

Protocol = Literal["xsub", "xview"]
SPLIT_FILES = {"xsub": "cross-subject", "xview": "cross-view"}

# 1 … 51, by the alphabet as in the dataset's Actions.xlsx; phase 2 has 41 of them, by the same numbers.
ACTIONS = (
    "bow", "brushing hair", "brushing teeth", "check time", "cheer up", "clapping", "cross hands in front",
    "drink water", "drop", "eat meal", "falling", "giving something to other person", "hand waving",
    "handshaking", "hopping", "hugging other person", "jump up", "kicking other person",
    "kicking something", "make a phone call", "pat on back of other person", "pickup",
    "playing with phone", "point finger at the other person", "pointing to something with finger",
    "punching other person", "pushing other person", "put on a hat", "put something inside pocket",
    "reading", "rub two hands together", "salute", "sitting down", "standing up", "take off a hat",
    "take off glasses", "take off jacket", "take out something from pocket", "taking a selfie",
    "tear up paper", "throw", "touch back", "touch chest", "touch head", "touch neck",
    "typing on a keyboard", "use a fan", "wear jacket", "wear on glasses", "wipe face", "writing",
)  # fmt: skip


@dataclass(frozen=True)
class Span(SourceFile):
    """Some frames of a recording, from `first` up to, not including, `last`.

    turn: which of the recording's clips that begin there it is, from 1.
    """

    first: int = 0
    last: int = 0
    label: int = 0
    turn: int = 1

    @property
    def stem(self) -> str:
        """The recording's name, and where the clip begins."""
        return f"{super().stem}_{self.first:05d}" + (f"#{self.turn}" if self.turn > 1 else "")

    def read(self, limit: int) -> bytes:
        """Read the lines of the frames. Raises ValueError where the recording is shorter, or broken."""
        lines = _lines(SourceFile(self.path, self.member), limit)
        if self.last > len(lines):
            raise ValueError(f"expected frames up to {self.last}, found a recording of {len(lines)}")
        return b"\n".join(lines[self.first : self.last])


@lru_cache(maxsize=1)
def _lines(file, limit):
    """Clips of a recording are read one after another: its file is read once for all of them."""
    return [line for line in file.read(limit).splitlines() if line.strip()]


def parse_clip(content: bytes) -> np.ndarray:
    """Parse the lines of a clip into a raw clip (3, F, 25, 2) float32. Raises ValueError if they are none."""
    rows = as_rows(content, columns=NUMBERS)
    clip = rows.reshape(-1, BODIES, JOINTS, 3).transpose(3, 0, 2, 1)
    return to_float32(clip)


def parse_labels(content: bytes) -> list[tuple[int, int, int]]:
    """Parse a label file: (action from 1, first frame, frame behind the last) of each clip.

    A few lines of the dataset have the two frames the other way round, which is put right.

    Raises ValueError if it is none.
    """
    found = []
    for row in as_rows(content).tolist():
        first, last = sorted(row[1:3]) if len(row) in (3, 4) else (-1, -1)
        whole = all(number.is_integer() for number in row[:3])
        if not (whole and 1 <= row[0] <= len(ACTIONS) and 0 <= first < last):
            raise ValueError(f"expected action 1 … {len(ACTIONS)}, first and last frame, found {row[:4]}")
        found.append((int(row[0]), int(first), int(last)))
    return found


def _recordings_and_labels(source: Path) -> tuple[dict[str, SourceFile], dict[str, SourceFile]]:
    """The files of recordings, and those of labels, each by its name."""
    recordings: dict[str, SourceFile] = {}
    labels: dict[str, SourceFile] = {}
    for file in find_files(source, ".txt"):
        if _RECORDING.fullmatch(file.stem):
            (labels if "label" in PurePath(file.folder).name.lower() else recordings)[file.stem] = file
    return recordings, labels


def find_spans(source: Path) -> tuple[list[Span], list[str]]:
    """Find the clips of all recordings that have a label file, and say what was without its partner.

    Raises InputError where there is no clip.
    """
    recordings, labels = _recordings_and_labels(source)
    spans, labeled = [], set[str]()
    for name, file in sorted(labels.items()):
        if name not in recordings:
            continue
        try:
            parsed = parse_labels(file.read(MAX_LIST_BYTES))
        except ValueError as error:
            raise InputError(f"{file}: {printable(error)}") from None
        if parsed:
            labeled.add(name)
        there, begun = recordings[name], Counter[int]()
        for action, first, last in parsed:
            begun[first] += 1
            spans.append(Span(there.path, there.member, first, last, action - 1, begun[first]))
    if not spans:
        raise InputError(
            f"{source}: expected recordings such as 0002-L.txt and label files of the same names in a folder "
            f"with Label in its name, found {len(recordings)} recordings and {len(labels)} label files"
        )
    alone = {
        "label files without a recording": sorted(labels.keys() - recordings.keys()),
        "recordings without labels": sorted(recordings.keys() - labeled),
    }
    return spans, [f"{len(names)} {what}: {examples(names)}" for what, names in alone.items() if names]


def listed_recordings(source: Path, protocol: Protocol) -> tuple[set[str], set[str]]:
    """Find the names of training recordings and of the others in a protocol's list.

    Raises InputError where there is no such list, or none for training.
    """
    wanted = SPLIT_FILES[protocol].replace("-", "")
    files = [f for f in find_files(source, ".txt") if re.sub("[-_]", "", f.stem.lower()).startswith(wanted)]
    if len(files) != 1:
        raise InputError(
            f"{source}: expected the list {SPLIT_FILES[protocol]}.txt there, found {len(files)} of them"
        )
    try:
        text = files[0].read(MAX_LIST_BYTES).decode("utf-8-sig")
    except ValueError as error:
        raise InputError(f"{files[0]}: expected a list of recordings, found: {printable(error)}") from None
    parts = [*re.split(r"valida\w*|test\w*", text, maxsplit=1, flags=re.IGNORECASE), ""]
    training, others = ({match[0] for match in _RECORDING.finditer(part)} for part in parts[:2])
    if not training:
        raise InputError(f"{files[0]}: expected training recordings such as 0002-L, found none")
    return training, others


def prepare_pku_mmd(
    out: Path,
    source: Path,
    protocol: Protocol = "xsub",
    workers: int | None = None,
) -> Dataset:
    """Prepare PKU-MMD, phase 1 or 2: clips cut out of its recordings by the label files.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: folder (searched to its depths) with the recordings, a folder of label files that has Label in
            its name, and the list of the protocol; .zip archives of them will do.
        protocol: whose list says which recordings are for training: cross-subject.txt or cross-view.txt.
        workers: processes that read files; as many as there are cores, if not given.
    """
    (spans, notes), (training, others) = find_spans(source), listed_recordings(source, protocol)
    for note in notes:
        print(f"note: {source}: {note}", file=sys.stderr)

    def plan(span: SourceFile) -> PlannedClip:
        recording = span.stem.rpartition("_")[0]
        if others and recording not in training | others:
            return PlannedClip(
                span.stem, skip=Skipped("expected its recording in the protocol's list, found none")
            )
        label = span.label if isinstance(span, Span) else 0
        return PlannedClip(span.stem, "train" if recording in training else "test", label)

    return prepare_files(
        list[SourceFile](spans),
        plan,
        parse_clip,
        limit=MAX_FILE_BYTES,
        workers=workers,
        out=out,
        name=f"pku-mmd-{protocol}",
        layout="ntu-rgb+d",
        classes=ACTIONS,
        num_bodies=BODIES,
        prepared={"from": "pku-mmd", "protocol": protocol},
    )


def _detect(path: Path) -> str:
    try:
        recordings, _labels = _recordings_and_labels(path)
    except InputError:
        return ""
    first = next(iter(recordings.values()), None)
    return f"{len(recordings)} recordings such as {first.name}" if first else ""


def _read(path: Path) -> Iterator[np.ndarray]:
    """A file is a recording: all of it, as one clip."""
    try:
        yield parse_clip(SourceFile(Path(path)).read(MAX_FILE_BYTES))
    except ValueError as error:
        raise InputError(f"{path}: {Skipped.of(error).reason}") from None


PKU_MMD = Format(
    name="pku-mmd",
    summary="Prepare PKU-MMD, phase 1 or 2: clips cut by its label files.",
    example="ikem-fast prepare pku-mmd --source PKUMMD --protocol xview --out data/pku",
    prepare=prepare_pku_mmd,
    detect=_detect,
    read=_read,
    layout="ntu-rgb+d",
)
