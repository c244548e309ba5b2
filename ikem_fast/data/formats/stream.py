"""Clips that lie in a few files: what is known of each, and their coordinates, read in that order.

What the forms of other codebases share is here: labels, names and frame counts beside arrays.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ikem_fast.data.dataset import MAX_CLASSES, Dataset
from ikem_fast.data.formats import ntu
from ikem_fast.data.formats.base import in_plane
from ikem_fast.data.formats.npy import NpyFile
from ikem_fast.data.formats.pickles import load_pickle
from ikem_fast.data.formats.stored import as_list
from ikem_fast.data.headers import MAGIC
from ikem_fast.data.pipeline import PlannedClip, prepare_clips, to_clips
from ikem_fast.data.preparation import NUM_FRAMES
from ikem_fast.data.preprocess import Clip, Skipped
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError, printable
from ikem_fast.skeleton import Layout, find_layout, get_layout, layout_names

EXAMPLES = 3


@dataclass(frozen=True)
class ClipStream:
    """Clips out of a few files.

    plan: makes the plan, what each clip is, in the order in which they are read, and the classes' names.
    read: yields the clips from a number on: raw (3, F, V, M), or a `Clip` where what is stored has been
        preprocessed already, or why there is none.
    files: what they are read from.
    num_frames: of every clip, where that is not chosen.
    planar: whether poses are in a plane, their third number a score or 0.
    notes: what a user should know of how the files were understood.
    """

    plan: Callable[[], tuple[list[PlannedClip], Sequence[str]]]
    read: Callable[[int], Iterator[np.ndarray | Clip | Skipped]]
    files: list[SourceFile]
    layout: Layout
    num_bodies: int
    num_frames: int = NUM_FRAMES
    notes: tuple[str, ...] = ()
    planar: bool = False

    def prepare(self, out: Path, name: str, prepared: dict[str, Any]) -> Dataset:
        """Prepare a dataset of them, and say on stderr what should be known of it."""
        for note in self.notes:
            print(f"note: {note}", file=sys.stderr)
        plan, classes = self.plan()
        with in_plane(self.planar):
            return prepare_clips(
                plan,
                lambda start: to_clips(self.read(start), self.layout, self.num_frames),
                out=out,
                name=printable(name),
                layout=self.layout,
                classes=classes,
                num_bodies=self.num_bodies,
                num_frames=self.num_frames,
                prepared={
                    **prepared,
                    "bytes": sum(file.size for file in self.files),
                },
            )

    def clips(self) -> Iterator[np.ndarray | Clip]:
        """Yield every clip, raw or preprocessed. Raises InputError for the first that cannot be had."""
        for number, clip in enumerate(self.read(0)):
            if isinstance(clip, Skipped):
                plan, _ = self.plan()
                raise InputError(f"{plan[number].name}: {clip.reason}")
            yield clip

    def raws(self) -> Iterator[np.ndarray]:
        """Yield the coordinates of every clip. Raises InputError for the first that cannot be had."""
        for clip in self.clips():
            yield clip.coordinates if isinstance(clip, Clip) else clip


def known_layout(layout: str | Layout, joints: int | None = None, where: object = "") -> Layout:
    """Find a layout by name or file, of so many joints. Raises InputError naming those that have as many."""
    found = find_layout(layout)
    if joints is not None and found.num_joints != joints:
        fitting = layouts_of_size(joints)
        raise InputError(
            f"{where}: expected {found.num_joints} joints for layout {found.name}, found {joints}"
            + (f"; --layout takes another: {', '.join(fitting)}" if fitting else "")
        )
    return found


def layouts_of_size(joints: int) -> list[str]:
    """Name the layouts of so many joints that are known."""
    return [name for name in layout_names() if get_layout(name).num_joints == joints]


def layout_of_size(joints: int, where: object) -> Layout:
    """Find a layout of so many joints, the first that is known. Raises InputError where there is none."""
    fitting = layouts_of_size(joints)
    if not fitting:
        raise InputError(f"{where}: expected joints of a known layout, found {joints}; --layout says theirs")
    return get_layout(fitting[0])


def number_classes(labels: Iterable[object], where: object) -> tuple[list[int], list[str]]:
    """Number the classes of labels: integers and texts of digits as they are, other texts by their order.

    Returns the class of each label, and the names of all classes from 0 on.

    Raises InputError for a label that is neither, negative, or too large.

    Example:
        number_classes(["walk", "sit", "walk"], "list.csv")  # ([1, 0, 1], ["sit", "walk"])
    """
    labels = list(labels)
    if labels and all(isinstance(label, str) and not _is_integer(label) for label in labels):
        names = sorted({str(label).strip() for label in labels})
        numbers = {name: number for number, name in enumerate(names)}
        return [numbers[str(label).strip()] for label in labels], [printable(name) for name in names]
    found = [_as_class(label, where) for label in labels]
    return found, [str(number) for number in range(max(found, default=0) + 1)]


def _is_integer(text):
    return re.fullmatch(r"\s*-?\d{1,9}\s*", text, re.ASCII) is not None


def _as_class(label, where):
    if type(label) is int and 0 <= label < MAX_CLASSES:
        return label
    if isinstance(label, str) and _is_integer(label):
        label = int(label)
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < MAX_CLASSES:
        raise InputError(
            f"{where}: expected labels from 0 to {MAX_CLASSES - 1}, or all of them names, found "
            f"{printable(repr(label), 60)}"
        )
    return label


def clip_names(names: Iterable[object], where: object) -> list[str]:
    """Make clips' names of what a file has for them: printable, each once, without a known ending.

    Raises InputError for one that is no text or number.
    """
    texts = [_clip_name(name, where) for name in names]
    if len(set(texts)) == len(texts):
        return texts
    seen: Counter[str] = Counter()
    for number, text in enumerate(texts):
        seen[text] += 1
        if seen[text] > 1:
            texts[number] = f"{text}#{seen[text]}"
    return texts


_ENDINGS = {"skeleton", "json", "txt", "mp4", "avi", "npy"}


def _clip_name(name, where):
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    if not isinstance(name, str | int):
        raise InputError(f"{where}: expected names of clips, found {type(name).__name__}")
    text = printable(name, 200)
    begin, _, end = text.rpartition(".")
    return begin if end in _ENDINGS else text


def ntu_names(names: Iterable[str]) -> list[ntu.ClipName | None]:
    """What the names of NTU RGB+D's clips say, None for others; what is behind a # is not part of a name."""
    return [ntu.parse_name(name.partition("#")[0]) for name in names]


def subject_of(parsed: ntu.ClipName | None) -> str | None:
    """Who was recorded, where the name is one of NTU RGB+D's."""
    return None if parsed is None else str(parsed.subject)


def classes_of(parsed: Sequence[ntu.ClipName | None], labels: Sequence[int], classes: list[str]) -> list[str]:
    """Name classes as NTU RGB+D does where all clips are named as its are, and labeled as their names say."""
    if not parsed or not all(
        name and name.action == label + 1 for name, label in zip(parsed, labels, strict=True)
    ):
        return classes
    return list(ntu.ACTIONS[:60] if len(classes) <= 60 else ntu.ACTIONS)


@dataclass(frozen=True)
class Labels:
    """What a label file says of each clip.

    given, frames: names as it has them, and frame counts; None where it says nothing of them.
    """

    file: SourceFile
    given: list[object] | None
    labels: list[object]
    frames: list[int] | None

    @cached_property
    def names(self) -> list[str] | None:
        """The clips' names; see `clip_names`."""
        return None if self.given is None else clip_names(self.given, self.file)


def read_labels(file: SourceFile, count: int) -> Labels:
    """Read a label file: a pickle of (names, labels) or (names, labels, frames), or labels alone.

    It may be an .npy file, too, by whatever name; one row of numbers a clip is one-hot.

    count: of the clips that there are.

    Raises InputError naming the file where it is anything else, or speaks of another number of clips.
    """
    with file.open() as stream:
        is_array = stream.read(len(MAGIC)) == MAGIC
    names: list[object] | None = None
    frames: list[Any] | None = None
    content = one_hot(NpyFile(file).load(), file) if is_array else load_pickle(file)
    try:
        if isinstance(content, list | tuple) and len(content) in (2, 3) and not is_flat(content):
            names, labels = (as_list(column, "names and labels") for column in content[:2])
            frames = as_list(content[2], "frame counts") if len(content) == 3 else None
        else:
            labels = as_list(content, "labels")
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None
    for what, column in (("names", names), ("labels", labels), ("frame counts", frames)):
        if column is not None and len(column) != count:
            raise InputError(f"{file}: expected {count} {what}, one a clip, found {len(column)}")
    if frames and not ({*map(type, frames)} == {int} and min(frames) > 0):
        odd = next(number for number in frames if type(number) is not int or number < 1)
        raise InputError(
            f"{file}: expected frame counts ≥ 1, whole numbers, found {printable(repr(odd), 60)}"
        )
    return Labels(file, names, labels, frames)


def is_flat(content: Iterable[object]) -> bool:
    """Say whether a list holds labels rather than columns."""
    return all(isinstance(item, int | str) for item in content)


def one_hot(labels: np.ndarray, where: object) -> list[object]:
    """Take labels (N,) or (N, 1), or rows (N, K) of which one value is 1, as a list.

    Raises InputError for others.
    """
    if labels.dtype.kind == "S":
        labels = np.char.decode(labels, "utf-8", "replace")
    if labels.ndim == 2 and labels.shape[1] == 1 and (labels.shape[0] < 1 or (labels != labels[0]).any()):
        labels = labels[:, 0]
    if labels.ndim == 2:
        if not (labels.shape[1] and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all()):
            raise InputError(
                f"{where}: expected one-hot labels (clips, classes), found others of shape {labels.shape}"
            )
        labels = labels.argmax(1)
    if labels.ndim != 1:
        raise InputError(f"{where}: expected one label a clip, found shape {labels.shape}")
    return labels.tolist()


def as_raw(clip: np.ndarray, copy: bool = True) -> np.ndarray:
    """Take (C, F, V, M) numbers as a raw clip (3, F, V, M); a third coordinate that is missing is 0.

    copy: whether that is a copy even of an array that is one's own, which may be written to.
    """
    wide = clip.dtype.itemsize >= 8
    if clip.dtype == np.float16 and clip.flags.writeable:
        import torch

        clip = torch.from_numpy(clip).float().numpy()  # the same numbers, in a tenth of NumPy's time
    else:
        clip = clip.astype(np.float64 if wide else np.float32, copy=copy or not clip.flags.writeable)
    if len(clip) == 2:
        return np.concatenate([clip, np.zeros_like(clip[:1])])
    return clip


def last_frame(clip: np.ndarray) -> int:
    """Count the frames of (C, F, V, M) up to the last that is not empty."""
    there = np.flatnonzero((clip != 0).any(axis=(0, 2, 3)))
    return int(there[-1]) + 1 if len(there) else 0


def examples(items: Sequence[str]) -> str:
    """Show the first few of some names, and how many more there are."""
    rest = len(items) - EXAMPLES
    return ", ".join(map(printable, items[:EXAMPLES])) + (f" and {rest} more" if rest > 0 else "")
