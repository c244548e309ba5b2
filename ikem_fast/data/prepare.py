"""What `ikem-fast prepare` does: from the files of a dataset to one prepared folder, for each known dataset.

Every command lists its clips in a fixed order, reads and preprocesses them (on all cores where there are
files to parse) and writes them in that order; see `DatasetWriter` for how an interrupted run goes on.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ikem_fast.data import synthetic
from ikem_fast.data.dataset import Dataset, DatasetWriter
from ikem_fast.data.formats.npz import PackedClips
from ikem_fast.data.preprocess import NUM_FRAMES, preprocess_clip, valid_frames
from ikem_fast.errors import InputError
from ikem_fast.skeleton import get_layout


@dataclass(frozen=True)
class PlannedClip:
    """A clip to prepare: what it is called, where it goes, and its class."""

    name: str
    split: str
    label: int


def prepare_npz(file: Path, layout: str, train: str, out: Path, name: str | None = None) -> Dataset:
    """Prepare clips packed into one .npz file.

    Args:
        file: the .npz: x (frames, joints, 3[, bodies]), len and y, and an attribute of the clips to split by.
        layout: name of the joint layout, such as utd-mhad, kinect-v1 or ntu-rgb+d.
        train: the attribute and its values that make a clip a training clip, such as subject=1,3,5,7; the
            rest are test clips.
        out: folder to write.
        name: name of the dataset; the file's, if not given.
    """
    packed = PackedClips(file)
    joints = _known_layout(layout).num_joints
    if packed.num_joints != joints:
        raise InputError(f"{file}: expected {joints} joints for layout {layout}, found {packed.num_joints}")
    is_train = _parse_train(train, packed)
    name = name or packed.path.stem
    digits = len(str(len(packed.labels)))
    plan = [
        PlannedClip(f"{name}-{index:0{digits}d}", "train" if in_train else "test", label)
        for index, (in_train, label) in enumerate(zip(is_train, packed.labels.tolist(), strict=True))
    ]
    return _prepare(
        plan,
        lambda start: (_preprocess(raw, layout) for raw in packed.clips(start)),
        out=out,
        name=name,
        layout=layout,
        classes=[str(label) for label in range(int(packed.labels.max(initial=0)) + 1)],
        num_bodies=packed.num_bodies,
        prepared={
            "from": "npz",
            "file": packed.path.name,
            "bytes": packed.path.stat().st_size,
            "train": train,
        },
    )


def _known_layout(layout):
    try:
        return get_layout(layout)
    except ValueError as error:
        raise InputError(str(error)) from None


def _parse_train(train, packed):
    """(N,) bool from "attribute=value,value,…"."""
    attribute, _, values = train.partition("=")
    wanted = [value.strip() for value in values.split(",")]
    if attribute not in packed.attributes or wanted == [""]:
        raise InputError(
            f"train: expected attribute=value,value,… with an attribute among "
            f"{', '.join(packed.attributes) or '(there is none)'}, found {train!r}"
        )
    column = packed.attributes[attribute].astype(str)
    missing = sorted(set(wanted) - set(column))
    if missing:
        raise InputError(
            f"train: expected values of {attribute!r} that are in {packed.path} "
            f"({', '.join(np.unique(column)[:50])}), found {', '.join(missing)}"
        )
    return np.isin(column, wanted)


def prepare_synthetic(out: Path, clips_per_class: int = 60, seed: int = 0) -> Dataset:
    """Prepare a procedural dataset: simulated people, no download.

    Args:
        out: folder to write.
        clips_per_class: clips of each action, spread over all subjects.
        seed: another seed, other people and other clips.
    """
    if clips_per_class < 3:
        raise InputError(
            f"clips_per_class: expected at least 3 (every third goes to test), found {clips_per_class}"
        )
    if seed < 0:
        raise InputError(f"seed: expected an integer ≥ 0, found {seed}")
    clips = synthetic.plan_clips(clips_per_class)
    layout = "ntu-rgb+d"
    return _prepare(
        [PlannedClip(clip.name, clip.split, clip.label) for clip in clips],
        lambda start: (_preprocess(synthetic.generate_clip(clip, seed), layout) for clip in clips[start:]),
        out=out,
        name="synthetic",
        layout=layout,
        classes=list(synthetic.ACTIONS),
        num_bodies=2,
        prepared={"from": "synthetic", "clips_per_class": clips_per_class, "seed": seed,
                  "generator": synthetic.VERSION},
    )  # fmt: skip


def _preprocess(raw, layout):
    """(clip, true frame count), or the reason why there is none."""
    try:
        return preprocess_clip(raw, frames=NUM_FRAMES, layout=layout), int(valid_frames(raw).sum())
    except ValueError as error:
        return str(error)


def _prepare(
    plan: list[PlannedClip],
    results: Callable[[int], Iterable],
    *,
    out: Path,
    name: str,
    layout: str,
    classes: Iterable[str],
    num_bodies: int,
    prepared: dict,
) -> Dataset:
    """Write the planned clips in order; `results(start)` yields `_preprocess`'s results from start on."""
    with DatasetWriter(
        out,
        name=name,
        layout=layout,
        classes=classes,
        num_frames=NUM_FRAMES,
        num_bodies=num_bodies,
        prepared={**prepared, "frames": NUM_FRAMES},
        sources=[clip.name for clip in plan],
    ) as writer:
        rest = plan[writer.done :]
        for clip, result in zip(
            rest, _with_progress(results(writer.done), writer.done, len(plan)), strict=True
        ):
            if isinstance(result, str):
                writer.skip(clip.name, result)
            else:
                writer.add(clip.split, result[0], result[1], clip.label, clip.name)
        dataset = writer.finish()
    _report(dataset)
    return dataset


def _with_progress(results, done, total) -> Iterator:
    """The same results, with a bar and the time left on standard error if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("preparing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("clips"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("preparing", total=total, completed=done)
        for result in results:
            yield result
            progress.advance(task)


def _report(dataset):
    """Clips of each split, and every clip that was left out, by name and reason."""
    counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
    print(
        f"{dataset.folder}: {counts} clips, {len(dataset.classes)} classes, {len(dataset.skipped)} left out"
    )
    for name, reason in dataset.skipped:
        print(f"  left out {name}: {reason}")
