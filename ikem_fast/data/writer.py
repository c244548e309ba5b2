"""Writing a prepared-dataset folder a clip at a time, in memory that does not grow with the dataset.

It is written beside its final name; an interrupted preparation goes on where it was. `dataset` says what is
in the folder.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ikem_fast.data.dataset import (
    DESCRIPTION,
    FORMAT,
    MAX_CLASSES,
    VERSION,
    Dataset,
    is_count,
    is_pairs,
    open_dataset,
    read_description,
    read_json,
)
from ikem_fast.errors import InputError, printable
from ikem_fast.files import SUFFIX, lock_folder, write_text
from ikem_fast.skeleton import Layout, find_layout, get_layout, layout_names

PROGRESS = "progress.json"
CHECKPOINT_EVERY = 512  # sources between two states that an interrupted preparation can go on from


class _NpyAppender:
    """Append rows to an .npy file; its header, whose size is the same for any row count, is written last."""

    def __init__(self, path, dtype, row_shape, rows):
        """rows: how many of those in the file to keep; what follows them is cut off."""
        self.path, self.dtype, self.row_shape = path, np.dtype(dtype), row_shape
        if path.is_symlink():
            raise InputError(f"{path}: expected an array of this folder, found a link; delete {path.parent}")
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

    def close(self):
        """Let go of the file, of which all that counts is on disk since the last `sync`."""
        with suppress(OSError):
            self.file.close()

    def write_header(self, rows):
        self.file.seek(0)
        self.file.write(self._header(rows))
        self.file.seek(0, os.SEEK_END)


class DatasetWriter:
    """Write a dataset folder from sources (files, as a rule) handled in a fixed order.

    Every source either adds a clip or is skipped; `done` is how many an interrupted earlier run handled, and
    this one goes on from there. Clip names may have `name_length` characters, and the names of their subjects
    `subject_length`; None where subjects are not known. Use as a context manager:

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
        layout: str | Path | Layout,
        classes: Iterable[str],
        num_frames: int,
        num_bodies: int,
        prepared: Mapping[str, object],
        sources: Iterable[str],
        name_length: int,
        splits: Iterable[str] = ("train", "test"),
        subject_length: int | None = None,
    ):
        self.folder = Path(os.path.abspath(folder))
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        sources = list(sources)
        skeleton = find_layout(layout)
        self._num_sources = len(sources)
        self._description: dict[str, Any] = {
            "format": FORMAT, "version": VERSION, "name": name, "layout": skeleton.name,
            "classes": list(classes), "frames": num_frames, "bodies": num_bodies,
            "splits": dict.fromkeys(splits, 0), "prepared": dict(prepared), "skipped": [],
        }  # fmt: skip
        identity = [self._description, sources, *([] if _is_known(skeleton) else [skeleton.tables()])]
        self._description["fingerprint"] = hashlib.sha256(
            json.dumps(identity, sort_keys=True).encode()
        ).hexdigest()
        self._description["skeleton"] = skeleton.tables()
        if len(self._description["classes"]) > MAX_CLASSES:
            raise InputError(
                f"classes: expected at most {MAX_CLASSES}, found {len(self._description['classes'])}"
            )
        self._texts = {"names": f"U{max(name_length, 1)}"}  # array → dtype
        if subject_length is not None:
            self._texts["subjects"] = f"U{max(subject_length, 1)}"
        self._lock: int | None = None
        self._arrays: dict[str, dict[str, _NpyAppender]] = {}
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
        if read_description(self.folder)["fingerprint"] != self._description["fingerprint"]:
            raise InputError(
                f"{self.folder}: expected a new folder to prepare into, found a dataset prepared "
                "from other files or with other settings; choose another one or delete it"
            )
        (self.folder / PROGRESS).unlink(missing_ok=True)  # left there if the last run ended on its last step
        return True

    def _start(self):
        """Create the partial folder, or take up the one that an interrupted run left."""
        self.partial.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(self.partial, "preparing")
        progress = self.partial / PROGRESS
        if progress.is_file():
            state = read_json(progress)
            if state.get("fingerprint") != self._description["fingerprint"]:
                raise InputError(
                    f"{self.partial}: expected nothing or an interrupted preparation of the same files with "
                    "the same settings, found another one; delete it or choose another folder"
                )
            self._take_up(state)
        elif any(path.name != PROGRESS + SUFFIX for path in self.partial.iterdir()):
            raise InputError(
                f"{self.partial}: expected nothing or an interrupted preparation, found something else; "
                "move it away"
            )
        row = (3, self._description["frames"], len(self._description["skeleton"]["joints"]),
               self._description["bodies"])  # fmt: skip
        parts = {"clips": (np.float32, row), "frames": (np.int32, ()), "labels": (np.int64, ()),
                 **{part: (dtype, ()) for part, dtype in self._texts.items()}}  # fmt: skip
        if not self.done:
            self._checkpoint()  # marks the folder as ours before anything else is in it
        for split, rows in self._description["splits"].items():
            self._arrays[split] = {
                part: _NpyAppender(self.partial / f"{split}_{part}.npy", dtype, row_shape, rows)
                for part, (dtype, row_shape) in parts.items()
            }

    def _take_up(self, state):
        """Go on from the state of an interrupted run, if it can be one: its splits become names of files."""
        done, splits, skipped = state.get("done"), state.get("splits"), state.get("skipped")
        if not (
            is_count(done, 0)
            and done <= self._num_sources
            and isinstance(splits, dict)
            and splits.keys() == self._description["splits"].keys()
            and all(is_count(rows, 0) for rows in splits.values())
            and is_pairs(skipped)
            and done == sum(splits.values()) + len(skipped)
        ):
            raise InputError(
                f"{self.partial / PROGRESS}: expected the state of an interrupted preparation of "
                f"{self._num_sources} sources into {', '.join(self._description['splits'])}, found "
                f"done {printable(repr(done), 40)}, splits {printable(repr(splits), 100)}; "
                f"delete {self.partial} and prepare anew"
            )
        self.done = done
        self._description["splits"], self._description["skipped"] = splits, skipped

    @property
    def num_clips(self) -> int:
        """Clips added so far, by earlier runs too."""
        return sum(self._description["splits"].values())

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """(name, reason) of every source skipped so far, by earlier runs too."""
        return tuple((name, reason) for name, reason in self._description["skipped"])

    def add(
        self, split: str, clip: np.ndarray, frames: int, label: int, name: str, subject: str | None = None
    ) -> None:
        """Add the clip of the next source: (3, T, V, M), its true frame count, its class, who was recorded.

        Raises ValueError if the shape is another, a name too long, or the subject missing or not expected.
        """
        expected = self._arrays[split]["clips"].row_shape
        if np.shape(clip) != expected:
            raise ValueError(f"clip {name}: expected shape {expected}, found {np.shape(clip)}")
        texts = {"names": name} if subject is None else {"names": name, "subjects": subject}
        if texts.keys() != self._texts.keys():
            raise ValueError(f"clip {name}: expected {', '.join(self._texts)}, found {', '.join(texts)}")
        for part, text in texts.items():
            most = int(self._texts[part][1:])
            if len(text) > most:
                raise ValueError(f"clip {name}: expected {part} of at most {most} characters, found {text!r}")
        for part, value in {"clips": clip, "frames": frames, "labels": label, **texts}.items():
            self._arrays[split][part].append(value)
        self._description["splits"][split] += 1
        self._advance()

    def skip(self, name: str, reason: str) -> None:
        """Pass over the next source, which gave no clip, for this reason."""
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

    @property
    def size_of_rest(self) -> int:
        """Bytes of the clips of the sources that are left, if all of them give one."""
        row = next(iter(self._arrays.values()))["clips"]
        return (self._num_sources - self.done) * row.dtype.itemsize * int(np.prod(row.row_shape))

    def finish(self) -> Dataset:
        """Give the folder its final name, now that all sources are handled, and return it opened.

        Raises RuntimeError if some are not.
        """
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

    def discard(self) -> None:
        """Delete the partial folder, which nothing is to be made of."""
        for arrays in self._arrays.values():
            for array in arrays.values():
                array.path.unlink()
        (self.partial / PROGRESS).unlink()
        self.close()
        self.partial.rmdir()

    def close(self) -> None:
        """Let go of the files; what was not finished stays, to be gone on with."""
        for arrays in self._arrays.values():
            for array in arrays.values():
                array.close()
        self._arrays = {}
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # What went wrong first is what is told.
        with suppress(OSError) if isinstance(error, OSError) else nullcontext():
            if self._arrays:
                self._checkpoint()  # an interrupted run can go on from the very clip it was at
        self.close()


def _is_known(layout):
    """Whether the name alone says which layout it is: identities of datasets were made of names alone."""
    return layout.name in layout_names() and layout == get_layout(layout.name)


def _write_json(path, content):
    write_text(path, json.dumps(content, indent=1) + "\n")
