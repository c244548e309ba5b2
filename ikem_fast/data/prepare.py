"""What `ikem-fast prepare` does for each known dataset: which clips it has, how they are split and read.

The command line is made from these functions: their parameters, annotations and docstrings.
"""

from functools import partial
from pathlib import Path

import numpy as np

from ikem_fast.data import synthetic
from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats import ntu, nw_ucla, utd_mhad
from ikem_fast.data.formats.npz import PackedClips
from ikem_fast.data.pipeline import IN_SKIP_LIST, PlannedClip, prepare_clips, prepare_files, preprocess
from ikem_fast.data.sources import find_files
from ikem_fast.errors import InputError
from ikem_fast.skeleton import get_layout


def prepare_ntu(
    skeletons: Path,
    protocol: ntu.ProtocolName,
    out: Path,
    skip_list: Path | None = None,
    bodies: ntu.BodyChoice = "motion",
    workers: int | None = None,
) -> Dataset:
    """Prepare NTU RGB+D or NTU RGB+D 120 from its .skeleton files.

    Args:
        skeletons: folder with the files or with .zip archives of them (searched to its depths), or one .zip.
        protocol: which actions, and which clips are for training.
        out: folder to write; an interrupted run started again goes on where it was.
        skip_list: file with the names of clips to leave out, one a line: the official lists of samples with
            missing or incomplete skeletons.
        bodies: how two bodies are chosen where the sensor saw more or lost one: by motion energy over
            tracking ids, or the first two of every frame as published.
        workers: processes that read files; as many as there are cores, if not given.
    """
    rules = ntu.PROTOCOLS[protocol]
    skipped = ntu.read_skip_list(skip_list) if skip_list else set()
    files = [file for file in find_files(skeletons, ".skeleton") if rules.has(ntu.parse_name(file.stem))]
    if not files:
        raise InputError(
            f"{skeletons}: expected files of actions A001 … A{rules.num_actions:03d}, found none"
        )

    def plan(file):
        name = ntu.parse_name(file.stem)
        if name is None:
            return PlannedClip(str(file), "", 0, "expected a name such as S001C002P003R002A013.skeleton")
        skip = IN_SKIP_LIST if file.stem in skipped else None
        return PlannedClip(file.stem, rules.split(name), name.action - 1, skip)

    return prepare_files(
        files,
        plan,
        partial(_read_ntu, bodies=bodies),
        limit=ntu.MAX_FILE_BYTES,
        workers=workers,
        out=out,
        name=protocol,
        layout=ntu.LAYOUT,
        classes=ntu.ACTIONS[: rules.num_actions],
        num_bodies=ntu.NUM_BODIES,
        prepared={"from": "ntu", "protocol": protocol, "bodies": bodies, "skip_list": sorted(skipped)},
    )


def _read_ntu(content, bodies):
    return ntu.parse_skeleton(content).clip(bodies)


def prepare_utd_mhad(skeletons: Path, out: Path, workers: int | None = None) -> Dataset:
    """Prepare UTD-MHAD, cross-subject, from its skeleton files (a1_s1_t1_skeleton.mat …).

    Args:
        skeletons: folder with the files or with a .zip of them (searched to its depths), or the .zip.
        out: folder to write; an interrupted run started again goes on where it was.
        workers: processes that read files; as many as there are cores, if not given.
    """
    return _prepare_named_files(skeletons, utd_mhad, "utd-mhad", utd_mhad.ACTIONS, out, workers)


def prepare_nw_ucla(skeletons: Path, out: Path, workers: int | None = None) -> Dataset:
    """Prepare NW-UCLA, cross-view, from one .json a clip (a01_s01_e00_v01.json …).

    Args:
        skeletons: folder with the files or with a .zip of them (searched to its depths), or the .zip.
        out: folder to write; an interrupted run started again goes on where it was.
        workers: processes that read files; as many as there are cores, if not given.
    """
    return _prepare_named_files(skeletons, nw_ucla, "nw-ucla", nw_ucla.ACTIONS.values(), out, workers)


def _prepare_named_files(skeletons, form, name, classes, out, workers):
    """Prepare a dataset with one body, whose file names say split and label; form: a module of `formats`."""

    def plan(file):
        clip = form.parse_name(file.stem)
        if clip is None:
            return PlannedClip(str(file), "", 0, f"is not named like a clip of {name}")
        return PlannedClip(file.stem, clip.split, clip.label)

    return prepare_files(
        find_files(skeletons, form.SUFFIX),
        plan,
        form.parse_clip,
        limit=form.MAX_FILE_BYTES,
        workers=workers,
        out=out,
        name=name,
        layout=form.LAYOUT,
        classes=classes,
        num_bodies=1,
        prepared={"from": name},
    )


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
    return prepare_clips(
        plan,
        lambda start: preprocess(packed.clips(start), layout),
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


def prepare_synthetic(out: Path, clips_per_class: int = 60, frames: int = 50, seed: int = 0) -> Dataset:
    """Prepare a procedural dataset: simulated people, no download.

    Args:
        out: folder to write.
        clips_per_class: clips of each action, spread over all subjects.
        frames: how many each clip is resampled to.
        seed: another seed, other people and other clips.
    """
    if clips_per_class < 3:
        raise InputError(
            f"clips_per_class: expected at least 3 (every third goes to test), found {clips_per_class}"
        )
    if frames < 1:
        raise InputError(f"frames: expected at least 1, found {frames}")
    if seed < 0:
        raise InputError(f"seed: expected an integer ≥ 0, found {seed}")
    clips = synthetic.plan_clips(clips_per_class)
    layout = "ntu-rgb+d"
    return prepare_clips(
        [PlannedClip(clip.name, clip.split, clip.label) for clip in clips],
        lambda start: preprocess(
            (synthetic.generate_clip(clip, seed) for clip in clips[start:]), layout, frames
        ),
        num_frames=frames,
        out=out,
        name="synthetic",
        layout=layout,
        classes=list(synthetic.ACTIONS),
        num_bodies=2,
        prepared={"from": "synthetic", "clips_per_class": clips_per_class, "seed": seed,
                  "generator": synthetic.VERSION},
    )  # fmt: skip
