"""The packed form: one .npz with all clips' frames one after another.

    x          (sum of frames, V, 3) or (sum of frames, V, 3, M), floats
    len        (N,) frames of each clip
    y          (N,) class of each clip, from 0
    any other  (N,) an attribute of each clip to split by, such as subject or view

Read as a stream, a clip at a time: memory does not grow with the file, and what its header declares is not
believed before it has been read.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from ikem_fast.errors import InputError

MAX_CLIPS = 10_000_000
MAX_CLIP_BYTES = 1 << 28
_BROKEN = (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError)


class PackedClips:
    """The description of a packed file; `clips` reads its coordinates.

    lengths, labels: (N,) int64.
    attributes: name → (N,) array, for every other entry.
    num_joints, num_bodies: V and M.

    Raises InputError if the file cannot be read or its entries disagree.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: expected an .npz file, found no such file")
        try:
            self._read_description()
        except InputError:
            raise
        except _BROKEN as error:
            raise InputError(f"{self.path}: expected an .npz with x, len and y, found: {error}") from None

    def _read_description(self):
        with zipfile.ZipFile(self.path) as archive:
            entries = {Path(name).stem for name in archive.namelist()}
            for needed in ("x", "len", "y"):
                if needed not in entries:
                    found = ", ".join(sorted(entries)[:20])
                    raise InputError(f"{self.path}: expected entries x, len and y, found {found}")
            self.attributes = {entry: self._read_column(archive, entry) for entry in sorted(entries - {"x"})}
            self.lengths = self._as_counts(self.attributes.pop("len"), "len")
            self.labels = self._as_counts(self.attributes.pop("y"), "y")
            for entry, column in {"y": self.labels, **self.attributes}.items():
                if column.shape != self.lengths.shape:
                    raise InputError(
                        f"{self.path}: expected {len(self.lengths)} values in {entry!r}, as in 'len', "
                        f"found shape {column.shape}"
                    )
            with archive.open("x.npy") as stream:
                shape, fortran_order, self._dtype = _read_header(stream)
        if fortran_order or len(shape) not in (3, 4) or shape[2] != 3 or self._dtype.kind != "f":
            raise InputError(
                f"{self.path}: expected 'x' to be floats of shape (frames, joints, 3) or "
                f"(frames, joints, 3, bodies) in C order, found {self._dtype} of shape {shape}"
                f"{' in Fortran order' if fortran_order else ''}"
            )
        if shape[0] != self.lengths.sum():
            raise InputError(
                f"{self.path}: expected 'x' to have {self.lengths.sum()} frames, the sum of 'len', "
                f"found {shape[0]}"
            )
        self.num_joints, self.num_bodies = shape[1], shape[3] if len(shape) == 4 else 1

    def _read_column(self, archive, entry):
        with archive.open(f"{entry}.npy") as stream:
            shape, _, dtype = _read_header(stream)
            if len(shape) != 1 or shape[0] > MAX_CLIPS or dtype.hasobject:
                raise InputError(
                    f"{self.path}: expected {entry!r} to hold one number or string a clip, "
                    f"found {dtype} of shape {shape}"
                )
            return np.frombuffer(_read_exactly(stream, shape[0] * dtype.itemsize), dtype)

    def _as_counts(self, column, entry):
        if column.dtype.kind not in "iu" or (len(column) and column.min() < 0):
            raise InputError(
                f"{self.path}: expected {entry!r} to be integers ≥ 0, found {column.dtype} {column[:3]}"
            )
        return column.astype(np.int64)

    def clips(self, start=0):
        """Yield the raw clips from `start` on, each (3, F, V, M) float32."""
        frame_shape = (self.num_joints, 3, self.num_bodies)
        frame_bytes = int(np.prod(frame_shape)) * self._dtype.itemsize
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open("x.npy") as stream:
                _read_header(stream)
                for index, length in enumerate(self.lengths.tolist()):
                    if length * frame_bytes > MAX_CLIP_BYTES:
                        raise InputError(
                            f"{self.path}: clip {index} declares {length} frames, which is absurd"
                        )
                    content = _read_exactly(stream, length * frame_bytes)
                    if index >= start:
                        clip = np.frombuffer(content, self._dtype).reshape(length, *frame_shape)
                        yield clip.transpose(2, 0, 1, 3).astype(np.float32)
        except InputError:
            raise
        except _BROKEN as error:
            raise InputError(f"{self.path}: expected a whole 'x', found: {error}") from None


def _read_header(stream):
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(stream)


def _read_exactly(stream, size):
    content = stream.read(size)
    if len(content) != size:
        raise EOFError(f"{size} bytes expected, {len(content)} left")
    return content
