"""The pickles of PYSKL and MMAction2, 3-D and 2-D: ntu60_3danno.pkl, ntu60_hrnet.pkl and their like.

    {"split": {"xsub_train": [frame_dir, …], "xsub_val": […], …},
     "annotations": [{"frame_dir": name, "total_frames": T, "label": class, "keypoint": (M, T, V, C),
                      "keypoint_score": (M, T, V)}, …]}

or, as MMAction2 had it first, the list of annotations alone, in a file for each split. PYSKL's own scripts
(`ntu_preproc.py`, `custom_2d_skeleton.py`) write float16 in protocol 2, and None for a clip without a body.
Poses of two coordinates get their score as the third, 0 where there is none. Coordinates stay in the file
until they are asked for. Not read: Kinetics' pickles, whose coordinates lie in other files, and the
compressed form (persons of all frames in a row, with `frame_inds`).
Duan et al., "PYSKL: Towards Good Practices for Skeleton Action Recognition" (ACM MM 2022).
"""

import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format
from ikem_fast.data.formats.pickles import load_pickle
from ikem_fast.data.formats.stored import StoredArray, as_list
from ikem_fast.data.formats.stream import (
    ClipStream,
    as_raw,
    classes_of,
    clip_names,
    examples,
    known_layout,
    ntu_names,
    number_classes,
    subject_of,
)
from ikem_fast.data.pipeline import PlannedClip
from ikem_fast.data.preparation import NUM_FRAMES
from ikem_fast.data.preprocess import MAX_COORDINATE, Clip, Skipped, is_bounded
from ikem_fast.data.sources import SourceFile, find_files
from ikem_fast.errors import InputError, printable
from ikem_fast.files import replacing
from ikem_fast.settings import Allowed

LAYOUTS = {25: "ntu-rgb+d", 17: "coco", 18: "openpose"}  # what PYSKL has for so many joints
MOST_PERSONS = 16
_PEEK = 1 << 12


def find_clips(
    source: Path,
    layout: str | None = None,
    protocol: str | None = None,
    persons: int = 2,
) -> ClipStream:
    """Find the clips of a pickle, or of two. Raises InputError."""
    files = _files(source)
    contents = {split: _content(file) for split, file in files.items()}
    notes, where = [], next(iter(files.values()))
    if list(contents) == ["all"]:
        chosen, missing = _chosen(contents["all"], where, protocol)
        if missing:
            notes.append(f"{where}: {len(missing)} clips of its splits are not in it: {examples(missing)}")
    else:
        chosen = [(split, one) for split, content in contents.items() for one in content["annotations"]]
    joints = _joints(chosen, where)
    if layout is None and joints not in LAYOUTS:
        raise InputError(f"{where}: expected --layout for {joints} joints, found none")
    skeleton = known_layout(layout or LAYOUTS[joints], joints, where)
    labels, classes = number_classes([one.get("label") for _, one in chosen], where)
    names = clip_names([one.get("frame_dir", index) for index, (_, one) in enumerate(chosen)], where)
    bodies = max(min(persons, max(_shape(one)[0] for _, one in chosen if _shape(one))), 1)
    named = contents[next(iter(contents))].get("label_names")
    subjects = [one.get("subject") for _, one in chosen]
    parsed = ntu_names(names)
    plan = [
        PlannedClip(name, split, label, subject=_subject(subject, of_ntu))
        for name, (split, _), label, subject, of_ntu in zip(
            names, chosen, labels, subjects, parsed, strict=True
        )
    ]
    classes = _class_names(named, where) if named else classes_of(parsed, labels, classes)
    lying = [name for name, (_, one) in zip(names, chosen, strict=True) if _lies(one)]
    if lying:
        told = f"total_frames of {len(lying)} clips is not their length, such as {examples(lying)}"
        notes.append(f"{where}: {told}")
    prepared = _are_prepared([one for _, one in chosen])
    return ClipStream(
        plan=lambda: (plan, classes),
        read=lambda start: (_clip(one, joints, bodies, prepared) for _, one in chosen[start:]),
        files=list(files.values()),
        layout=skeleton,
        num_bodies=bodies,
        planar=all(_shape(one)[3] == 2 for _, one in chosen if _shape(one)),
        num_frames=_shape(chosen[0][1])[1] if prepared else NUM_FRAMES,
        notes=tuple(notes),
    )


def _files(source):
    """Split → its pickle, or {"all": the one there is}."""
    files = find_files(source, (".pkl", ".pickle"))
    if len(files) == 1:
        return {"all": files[0]}
    found = {
        split: [file for file in files if any(word in file.stem for word in words)]
        for split, words in {"train": ("train",), "test": ("val", "test")}.items()
    }
    if any(len(some) != 1 for some in found.values()):
        raise InputError(
            f"{source}: expected one pickle, or one with train and one with val or test in its name, found "
            f"{len(files)}: {examples([file.name for file in files])}"
        )
    return {split: some[0] for split, some in found.items()}


def _content(file: SourceFile) -> dict[str, Any]:
    content = load_pickle(file)
    content = {"annotations": content} if isinstance(content, list) else content
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list):
        raise InputError(
            f"{file}: expected a dict of 'split' and 'annotations', or a list of annotations, found "
            f"{printable(list(content)) if isinstance(content, dict) else type(content).__name__}"
        )
    annotations = [one for one in annotations if one is not None]  # as PYSKL writes clips without a body
    odd = {type(one).__name__ for one in annotations if not isinstance(one, dict)}
    if odd or not annotations:
        found = " and ".join(sorted(odd)) or "none"
        raise InputError(f"{file}: expected annotations, a dict each, found {found}")
    return {**content, "annotations": annotations}


def _chosen(
    content: Mapping[str, Any], file: SourceFile, protocol: str | None
) -> tuple[list[tuple[str, dict]], list[str]]:
    """(split, annotation) of every clip that is in one of a protocol's splits, and names there of no clip."""
    splits = content.get("split")
    if not isinstance(splits, dict) or not all(isinstance(name, str) for name in splits):
        raise InputError(f"{file}: expected named splits, found none; give a folder with two pickles")
    pairs = {
        name.removesuffix("train").rstrip("_"): (name, other)
        for name in splits
        for other in (f"{name.removesuffix('train')}{ending}" for ending in ("val", "test"))
        if name.endswith("train") and other in splits
    }
    if protocol not in pairs and not (protocol is None and len(pairs) == 1):
        known = ", ".join(map(printable, pairs)) or "none"
        raise InputError(f"{file}: expected --protocol out of its splits ({known}), found {protocol!r}")
    members: dict[Any, str] = {}
    pair = next(iter(pairs.values())) if protocol is None else pairs[protocol]
    for split, name in zip(("train", "test"), pair, strict=True):
        try:
            wanted = set(as_list(splits[name], f"split {name!r}"))
        except (ValueError, TypeError) as error:
            raise InputError(f"{file}: {error}") from None
        both = [name for name in wanted if members.get(name, split) != split]
        if both:
            raise InputError(f"{file}: expected no clip in two splits, found {examples(both)}")
        members |= dict.fromkeys(wanted, split)
    named = [(one.get("frame_dir"), one) for one in content["annotations"]]
    try:
        chosen = [(members[name], one) for name, one in named if name in members]
        return chosen, sorted(map(str, members.keys() - {name for name, _ in named}))
    except TypeError as error:
        raise InputError(f"{file}: expected frame_dir to be a text, found: {printable(error)}") from None


def _shape(one: Mapping[str, Any]) -> tuple[int, ...]:
    """(M, T, V, C) of an annotation; () where it has no such array."""
    keypoint = one.get("keypoint")
    shape = keypoint.shape if isinstance(keypoint, StoredArray) and keypoint.objects is None else ()
    return shape if len(shape) == 4 and shape[3] in (2, 3) else ()


def _joints(chosen, file):
    shape = next((shape for _, one in chosen if (shape := _shape(one))), None)
    if shape is None:
        found = getattr(chosen[0][1].get("keypoint"), "shape", "none") if chosen else "no annotations"
        raise InputError(f"{file}: expected 'keypoint' (M, T, V, 2 or 3) in annotations, found {found}")
    return shape[2]


def _class_names(named, file):
    try:
        return list(map(printable, as_list(named, "label_names")))
    except ValueError as error:
        raise InputError(f"{file}: {error}") from None


def _lies(one):
    return bool(_shape(one)) and "total_frames" in one and one["total_frames"] != _shape(one)[1]


def _subject(subject, of_ntu):
    return printable(subject) if isinstance(subject, str | int) else subject_of(of_ntu)


def _clip(one: Mapping[str, Any], joints: int, persons: int, prepared: bool) -> np.ndarray | Clip | Skipped:
    shape = _shape(one)
    if not shape or shape[2] != joints or not shape[0]:
        found = getattr(one.get("keypoint"), "shape", "nothing of the kind")
        return Skipped(f"expected 'keypoint' of shape (M, T, {joints}, 2 or 3), found {found}")
    try:
        clip = as_raw(one["keypoint"].load()[:persons].transpose(3, 1, 2, 0), copy=False)
        scores = one.get("keypoint_score")
        if shape[3] == 2 and isinstance(scores, StoredArray) and scores.shape == shape[:3]:
            clip[2] = scores.load()[:persons].transpose(1, 2, 0)
    except InputError as error:
        return Skipped.of(error)
    if prepared:
        if not is_bounded(clip):
            return Skipped(f"expected coordinates below {MAX_COORDINATE:g}, found NaN, infinity or more")
        frames = one["true_frames"]
        return Clip(clip, frames) if type(frames) is int and frames > 0 else Skipped("no true frame count")
    if clip.shape[3] == persons:
        return clip
    whole = np.zeros((*clip.shape[:3], persons), clip.dtype)
    whole[..., : clip.shape[3]] = clip
    return whole


def prepare_pyskl(
    out: Path,
    source: Path,
    layout: str | None = None,
    protocol: str | None = None,
    persons: Annotated[int, Allowed(least=1, most=MOST_PERSONS)] = 2,
) -> Dataset:
    """Prepare a pickle of PYSKL or MMAction2, of poses in three coordinates or two.

    Args:
        out: folder to write; an interrupted run started again goes on where it was.
        source: the pickle, or a folder with one for training clips and one for test clips.
        layout: the joint layout, a name or a YAML file; what PYSKL has for 25, 17 or 18 joints, if not given.
        protocol: what its splits are called ahead of _train and _val, such as xsub; the only one there is, if
            not given.
        persons: how many of a clip's persons are taken, the first of them; missing ones are zero.
    """
    prepared = {"from": "pyskl", "protocol": protocol, "persons": persons}
    return find_clips(source, layout, protocol, persons).prepare(out, Path(source).stem, prepared)


def write_pyskl(dataset: Dataset, out: Path) -> list[Path]:
    """Write a dataset as PYSKL reads it, its splits called train and val.

    Beside what PYSKL knows, an annotation has `true_frames`, the clip's frame count ahead of resampling, and
    `subject` where that is known, and the whole has `label_names`; by these, reading gives the same dataset.

    Returns the file.
    """
    path = out / f"{dataset.folder.resolve().name or 'clips'}.pkl"
    names = {name: "val" if name == "test" else name for name in dataset.splits}
    splits = {names[name]: split.names.tolist() for name, split in dataset.splits.items()}
    with replacing(path) as beside, beside.open("wb") as file:
        file.write(b"\x80\x04}(")  # a dict, written an item at a time: memory does not grow with the dataset
        for content in ("label_names", list(dataset.classes), "split", splits, "annotations"):
            file.write(_instructions(content))
        file.write(b"]")
        for split in dataset.splits.values():
            subjects = [None] * len(split) if split.subjects is None else split.subjects.tolist()
            for index, subject in enumerate(subjects):
                clip = np.ascontiguousarray(split.clips[index].transpose(3, 1, 2, 0))
                one = {
                    "frame_dir": str(split.names[index]), "label": int(split.labels[index]),
                    "total_frames": clip.shape[1], "true_frames": int(split.frames[index]), "keypoint": clip,
                }  # fmt: skip
                file.write(_instructions(one if subject is None else {**one, "subject": subject}) + b"a")
        file.write(b"u.")
    return [path]


def _instructions(content: object) -> bytes:
    """The pickle of a value without what stands at its beginning and end, to be put into another."""
    return pickle.dumps(content, protocol=3)[2:-1]


def _detect(path: Path) -> str:
    try:
        files = find_files(path, (".pkl", ".pickle"))
        starts = [file for file in files if b"frame_dir" in _start(file) or b"split" in _start(file)]
    except InputError:
        return ""
    return f"a pickle of annotations, {starts[0].name}" if starts else ""


def _start(file: SourceFile) -> bytes:
    try:
        with file.open() as stream:
            return stream.read(_PEEK)
    except (OSError, ValueError):
        return b""


def _read(path: Path) -> Iterator[np.ndarray | Clip]:
    """Every clip, whatever splits there are, with all of its persons; preprocessed where we wrote it so."""
    annotations = _content(SourceFile(Path(path)))["annotations"]
    prepared = _are_prepared(annotations)
    for one in annotations:
        shape = _shape(one) or (0, 0, 0, 0)
        clip = _clip(one, shape[2], shape[0], prepared)
        if isinstance(clip, Skipped):
            raise InputError(f"{path}: {printable(one.get('frame_dir'))}: {clip.reason}")
        yield clip


def _are_prepared(annotations):
    """Whether clips are what `write_pyskl` left, with the frame counts that they were made of."""
    return all(_shape(one) and "true_frames" in one for one in annotations)


PYSKL = Format(
    name="pyskl",
    summary="Prepare a pickle of PYSKL or MMAction2, 3-D or 2-D.",
    example="ikem-fast prepare pyskl --source ntu60_3danno.pkl --protocol xsub --out data/ntu60",
    prepare=prepare_pyskl,
    detect=_detect,
    read=_read,
    write=write_pyskl,
)
