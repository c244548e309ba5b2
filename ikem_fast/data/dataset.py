"""The prepared-dataset folder: memory-mapped arrays and a JSON description, read by `open_dataset`.

    dataset.json          format, version, name, layout, class names, sizes, clips a split, origin
    <split>_clips.npy     (N, 3, T, V, M) float32: preprocessed clips
    <split>_frames.npy    (N,) int32: true frame counts f (see `preprocess`)
    <split>_labels.npy    (N,) int64: class of each clip, from 0
    <split>_names.npy     (N,) unicode: what each clip was prepared from

Nothing in it is pickled. `DatasetWriter` writes a folder a clip at a time, in memory that does not grow with
the dataset, beside its final name; an interrupted preparation goes on where it was.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ikem_fast.errors import InputError
from ikem_fast.skeleton import get_layout

FORMAT = "ikem-fast dataset"
VERSION = 1
DESCRIPTION = "dataset.json"
PROGRESS = "progress.json"
CHECKPOINT_EVERY = 512  # sources between two states that an interrupted preparation can go on from


@dataclass(frozen=True)
class Split:
    """One part of a dataset.

    clips: (N, 3, T, V, M) float32, memory-mapped, read-only.
    frames: (N,) int32, true frame counts.
    labels: (N,) int64.
    names: (N,) unicode.
    """

    clips: np.memmap
    frames: np.ndarray
    labels: np.ndarray
    names: np.ndarray

    def __len__(self):
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A prepared dataset; `dataset["train"]` is a `Split`.

    prepared: how it was prepared: the format it came from and the settings that shaped it.
    skipped: (name, reason) of every clip that was left out.
    """

    folder: Path
    name: str
    layout: str
    classes: tuple[str, ...]
    num_frames: int
    num_bodies: int
    splits: Mapping[str, Split]
    prepared: Mapping[str, object]
    skipped: tuple[tuple[str, str], ...]

    @property
    def num_joints(self):
        return get_layout(self.layout).num_joints

    def __getitem__(self, split):
        if split not in self.splits:
            raise InputError(
                f"{self.folder}: expected a split among {', '.join(self.splits)}, found {split!r}"
            )
        return self.splits[split]


def open_dataset(folder):
    """Open a prepared dataset; clips stay on disk and are mapped into memory as they are read.

    Raises InputError naming the file, what was expected and what was found, if anything in the folder is
    missing, cut short, of another version, or at odds with its description.
    """
    folder = Path(folder)
    description = _read_description(folder)
    layout = description["layout"]
    try:
        joints = get_layout(layout).num_joints
    except ValueError as error:
        raise InputError(f"{folder / DESCRIPTION}: {error}") from None
    row_shape = (3, description["frames"], joints, description["bodies"])
    splits = {
        split: _open_split(folder, split, rows, row_shape, len(description["classes"]))
        for split, rows in description["splits"].items()
    }
    return Dataset(
        folder=folder,
        name=description["name"],
        layout=layout,
        classes=tuple(description["classes"]),
        num_frames=description["frames"],
        num_bodies=description["bodies"],
        splits=splits,
        prepared=description["prepared"],
        skipped=tuple((name, reason) for name, reason in description["skipped"]),
    )


def _is_count(value, least):
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_strings(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


# What each entry of dataset.json must be: (wording for the error message, test).
_ENTRIES = {
    "name": ("a string", lambda value: isinstance(value, str)),
    "layout": ("the name of a joint layout", lambda value: isinstance(value, str)),
    "classes": ("a list of class names", lambda value: _is_strings(value) and value),
    "frames": ("a positive integer", lambda value: _is_count(value, 1)),
    "bodies": ("a positive integer", lambda value: _is_count(value, 1)),
    "splits": (
        "a clip count for each split's name",
        lambda value: (
            isinstance(value, dict)
            and value
            and all(
                re.fullmatch(r"[a-z][a-z0-9_]*", split) and _is_count(rows, 0)
                for split, rows in value.items()
            )
        ),
    ),
    "prepared": ("an object", lambda value: isinstance(value, dict)),
    "skipped": (
        "a list of [name, reason]",
        lambda value: isinstance(value, list) and all(_is_strings(item) and len(item) == 2 for item in value),
    ),
    "fingerprint": ("a string", lambda value: isinstance(value, str)),
}


def _read_json(path):
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: not JSON, or not UTF-8
        raise InputError(f"{path}: expected a JSON file, found: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def _read_description(folder):
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InputError(
            f"{folder}: expected a prepared dataset, found no {DESCRIPTION} there; "
            "prepare one first: ikem-fast prepare --help"
        )
    description = _read_json(path)
    if description.get("format") != FORMAT:
        raise InputError(f"{path}: expected format {FORMAT!r}, found {description.get('format')!r}")
    if description.get("version") != VERSION:
        raise InputError(
            f"{path}: expected version {VERSION}, found {description.get('version')!r}; prepare anew"
        )
    for entry, (wording, is_valid) in _ENTRIES.items():
        if entry not in description or not is_valid(description[entry]):
            raise InputError(
                f"{path}: expected {entry!r} to be {wording}, found {description.get(entry)!r:.100}"
            )
    return description


def _open_array(path, dtype, shape):
    """Memory-map an .npy file and hold it against its expected dtype (None: any unicode) and shape."""
    if not path.is_file():
        raise InputError(f"{path}: expected an array of shape {shape}, found no such file; prepare anew")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(f"{path}: expected a whole .npy file, found: {error}; prepare anew") from None
    if not isinstance(array, np.memmap):
        raise InputError(f"{path}: expected an .npy file, found an archive of several; prepare anew")
    if array.shape != shape or (array.dtype.kind != "U" if dtype is None else array.dtype != dtype):
        expected = "unicode" if dtype is None else np.dtype(dtype).name
        raise InputError(
            f"{path}: expected {expected} of shape {shape}, "
            f"found {array.dtype} of shape {array.shape}; prepare anew"
        )
    return array


def _open_split(folder, split, rows, row_shape, num_classes):
    def open_array(part, dtype, shape):
        return _open_array(folder / f"{split}_{part}.npy", dtype, shape)

    frames = open_array("frames", np.int32, (rows,))
    labels = open_array("labels", np.int64, (rows,))
    if rows and frames.min() < 1:
        raise InputError(f"{folder / f'{split}_frames.npy'}: expected frame counts ≥ 1, found {frames.min()}")
    if rows and not (labels.min() >= 0 and labels.max() < num_classes):
        raise InputError(
            f"{folder / f'{split}_labels.npy'}: expected labels 0 … {num_classes - 1}, "
            f"found {labels.min()} … {labels.max()}"
        )
    return Split(
        clips=open_array("clips", np.float32, (rows, *row_shape)),
        frames=frames,
        labels=labels,
        names=open_array("names", None, (rows,)),
    )


class _NpyAppender:
    """Appends rows to an .npy file; its header, whose size is the same for any row count, is written last."""

    def __init__(self, path, dtype, row_shape, rows):
        """rows: how many of those in the file to keep; what follows them is cut off."""
        self.dtype, self.row_shape = np.dtype(dtype), row_shape
        self.file = path.open("r+b" if path.exists() else "w+b")
        size = len(self._header(0)) + rows * self.dtype.itemsize * int(np.prod(row_shape))
        if rows and path.stat().st_size < size:
            raise InputError(
                f"{path}: expected {rows} rows from an interrupted preparation, found it cut short; "
                f"delete {path.parent} and prepare anew"
            )
        self.file.truncate(size)
        self.file.seek(size)

    def _header(self, rows):
        header = io.BytesIO()
        fields = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False,
                  "shape": (rows, *self.row_shape)}  # fmt: skip
        np.lib.format.write_array_header_1_0(header, fields)
        return header.getvalue()

    def append(self, row):
        self.file.write(np.asarray(row, dtype=self.dtype).tobytes())

    def sync(self):
        self.file.flush()
        os.fsync(self.file.fileno())

    def write_header(self, rows):
        self.file.seek(0)
        self.file.write(self._header(rows))
        self.file.seek(0, os.SEEK_END)


class DatasetWriter:
    """Writes a dataset folder from sources (files, as a rule) handled in a fixed order.

    Every source either adds a clip or is skipped; `done` is how many an interrupted earlier run handled, and
    this one goes on from there. Clip names may have `name_length` characters. Use as a context manager:

        with DatasetWriter(folder, ..., sources=names, name_length=20) as writer:
            for name in names[writer.done:]:
                writer.add("train", clip, frames, label, name)   # or writer.skip(name, reason)
            dataset = writer.finish()

    The clips go to `<folder>.partial`, renamed to `folder` by `finish`. A folder that is complete already,
    with the same settings and sources, is left as it is (`complete` is True). Raises InputError if `folder`
    or `<folder>.partial` is anything else: other settings, other sources, or not a dataset.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        layout: str,
        classes: Iterable[str],
        num_frames: int,
        num_bodies: int,
        prepared: Mapping[str, object],
        sources: Iterable[str],
        name_length: int,
        splits: Iterable[str] = ("train", "test"),
    ):
        self.folder = Path(os.path.abspath(folder))
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        sources = list(sources)
        self._num_sources = len(sources)
        self._description = {
            "format": FORMAT, "version": VERSION, "name": name, "layout": get_layout(layout).name,
            "classes": list(classes), "frames": num_frames, "bodies": num_bodies,
            "splits": dict.fromkeys(splits, 0), "prepared": dict(prepared), "skipped": [],
        }  # fmt: skip
        identity = json.dumps([self._description, sources], sort_keys=True)
        self._description["fingerprint"] = hashlib.sha256(identity.encode()).hexdigest()
        self._name_dtype = f"U{max(name_length, 1)}"
        self._lock = None
        self._arrays = {}
        self.done = 0
        self.complete = self._is_complete()
        if self.complete:
            self.done = self._num_sources
            return
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _is_complete(self):
        if not self.folder.exists() or (self.folder.is_dir() and not any(self.folder.iterdir())):
            return False
        if not (self.folder / DESCRIPTION).is_file():
            raise InputError(
                f"{self.folder}: expected a new folder to prepare into, found something else there; "
                "choose another one or move it away"
            )
        if _read_description(self.folder)["fingerprint"] != self._description["fingerprint"]:
            raise InputError(
                f"{self.folder}: expected a new folder to prepare into, found a dataset prepared "
                "from other files or with other settings; choose another one or delete it"
            )
        (self.folder / PROGRESS).unlink(missing_ok=True)  # left there if the last run ended on its last step
        return True

    def _start(self):
        """Create the partial folder, or take up the one that an interrupted run left."""
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = _lock_folder(self.partial)
        progress = self.partial / PROGRESS
        if progress.is_file():
            state = _read_json(progress)
            if state.get("fingerprint") != self._description["fingerprint"]:
                raise InputError(
                    f"{self.partial}: expected nothing or an interrupted preparation of the same files with "
                    "the same settings, found another one; delete it or choose another folder"
                )
            self.done = state["done"]
            self._description["splits"] = state["splits"]
            self._description["skipped"] = state["skipped"]
        elif any(self.partial.iterdir()):
            raise InputError(
                f"{self.partial}: expected nothing or an interrupted preparation, found something else; "
                "move it away"
            )
        row = (3, self._description["frames"], get_layout(self._description["layout"]).num_joints,
               self._description["bodies"])  # fmt: skip
        parts = {"clips": (np.float32, row), "frames": (np.int32, ()), "labels": (np.int64, ()),
                 "names": (self._name_dtype, ())}  # fmt: skip
        if not self.done:
            self._checkpoint()  # marks the folder as ours before anything else is in it
        for split, rows in self._description["splits"].items():
            self._arrays[split] = {
                part: _NpyAppender(self.partial / f"{split}_{part}.npy", dtype, row_shape, rows)
                for part, (dtype, row_shape) in parts.items()
            }

    def add(self, split, clip, frames, label, name):
        """The next source is a clip of `split`: clip (3, T, V, M), its true frame count, its class."""
        expected = self._arrays[split]["clips"].row_shape
        if np.shape(clip) != expected:
            raise ValueError(f"clip {name}: expected shape {expected}, found {np.shape(clip)}")
        if len(name) > int(self._name_dtype[1:]):
            raise ValueError(f"clip {name}: expected a name of at most {self._name_dtype[1:]} characters")
        for part, value in (("clips", clip), ("frames", frames), ("labels", label), ("names", name)):
            self._arrays[split][part].append(value)
        self._description["splits"][split] += 1
        self._advance()

    def skip(self, name, reason):
        """The next source gave no clip, for this reason."""
        self._description["skipped"].append([name, reason])
        self._advance()

    def _advance(self):
        self.done += 1
        if self.done % CHECKPOINT_EVERY == 0:
            self._checkpoint()

    def _checkpoint(self):
        """Everything so far is on disk before the state that refers to it is."""
        for arrays in self._arrays.values():
            for array in arrays.values():
                array.sync()
        state = {"fingerprint": self._description["fingerprint"], "done": self.done,
                 "splits": self._description["splits"], "skipped": self._description["skipped"]}  # fmt: skip
        _write_json(self.partial / PROGRESS, state)

    def finish(self):
        """All sources are handled: give the folder its final name. Returns it opened, a `Dataset`."""
        if self.done != self._num_sources:
            raise RuntimeError(f"{self.done} of {self._num_sources} sources were added or skipped")
        if not self.complete:
            for split, arrays in self._arrays.items():
                for array in arrays.values():
                    array.write_header(self._description["splits"][split])
            self._checkpoint()
            _write_json(self.partial / DESCRIPTION, self._description)
            self.close()
            self.partial.rename(self.folder)
            (self.folder / PROGRESS).unlink()
            self.complete = True
        return open_dataset(self.folder)

    def close(self):
        for arrays in self._arrays.values():
            for array in arrays.values():
                array.file.close()
        self._arrays = {}
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._arrays:
            self._checkpoint()  # an interrupted run can go on from the very clip it was at
        self.close()


def _write_json(path, content):
    beside = path.with_name(path.name + ".new")
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(path)


def _lock_folder(folder):
    """A descriptor that keeps other processes from preparing into the same folder while it is open."""
    import fcntl  # POSIX alone has it, and reading datasets works elsewhere too

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise InputError(f"{folder}: another run is preparing this folder; wait for it to end") from None
    return descriptor
