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

MAX_CLIP_BYTES = 1 << 28
MAX_COLUMN_BYTES = 1 << 28
MAX_CLASSES = 1 << 16
_BROKEN = (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)


class PackedClips:
    """The description of a packed file; `clips` reads its coordinates.

    lengths, labels: (N,) int64.
    attributes: name → (N,) array, for every other entry that is one value a clip.
    num_joints, num_bodies: V and M.

    Raises InputError if the file cannot be read or its entries disagree.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"{self.path}: expected an .npz file, found no such file")
        try:
            with zipfile.ZipFile(self.path) as archive:
                self._read_description(archive)
        except InputError:
            raise
        except _BROKEN as error:
            raise InputError(f"{self.path}: expected an .npz with x, len and y, found: {error}") from None

    def _read_description(self, archive):
        entries = sorted(name.removesuffix(".npy") for name in archive.namelist())
        if not {"x", "len", "y"} <= set(entries):
            raise InputError(f"{self.path}: expected entries x, len and y, found {', '.join(entries[:20])}")
        columns = {entry: self._read_column(archive, entry) for entry in entries if entry != "x"}
        self.lengths = self._as_integers("len", columns.pop("len"), most=MAX_CLIP_BYTES)
        self.labels = self._as_integers("y", columns.pop("y"), most=MAX_CLASSES - 1)
        if self.labels.shape != self.lengths.shape:
            raise InputError(
                f"{self.path}: expected {len(self.lengths)} values in 'y', as in 'len', "
                f"found {len(self.labels)}"
            )
        self.attributes = {
            entry: column
            for entry, column in columns.items()
            if column is not None and column.shape == self.lengths.shape
        }
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
        """The array of an entry with one number or string a clip; None if it is something else."""
        with archive.open(f"{entry}.npy") as stream:
            shape, _, dtype = _read_header(stream)
            if len(shape) != 1 or dtype.kind not in "iuUS" or shape[0] * dtype.itemsize > MAX_COLUMN_BYTES:
                return None
            return np.frombuffer(_read_exactly(stream, shape[0] * dtype.itemsize), dtype)

    def _as_integers(self, entry, column, most):
        if column is None or column.dtype.kind not in "iu":
            raise InputError(f"{self.path}: expected one integer a clip in {entry!r}, found something else")
        if len(column) and not (column.min() >= 0 and column.max() <= most):
            raise InputError(
                f"{self.path}: expected {entry!r} from 0 to {most}, found {column.min()} … {column.max()}"
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
