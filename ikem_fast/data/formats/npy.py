"""Arrays in .npy files, and in members of archives, read a few rows at a time.

Memory does not grow with the file, and what a header declares is held against what is there before any is
asked for.
"""

import math
import mmap
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from ikem_fast.data.headers import read_header, read_into
from ikem_fast.data.native import _skeleton_io
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError, printable

MAX_BLOCK_BYTES = 1 << 26  # of the rows that are read at a time, such as those of a clip
_READ_AT_ONCE = 1 << 18  # bytes of small rows
_LET_GO = 1 << 22  # bytes of a map that is gone through, whose pages are given back together
MAX_LOADED_BYTES = 1 << 28  # of an array that is read whole, such as labels
BROKEN = (ValueError, KeyError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error)


class NpyFile:
    """An array in a file, of which the header has been read.

    shape, dtype: as the header has them; numbers or texts, in any byte order, C or Fortran order.

    Raises InputError naming the file if it holds no such array, or not as many bytes as the header declares.
    """

    def __init__(self, file: SourceFile):
        self.file = file
        try:
            with file.open() as stream:
                header = read_header(stream, str(file))
                self._start = stream.tell()
        except BROKEN as error:
            raise InputError(f"{file}: expected a NumPy array, found: {printable(error)}") from None
        self.shape, self._fortran_order = header.shape, header.fortran_order and len(header.shape) > 1
        if header.dtype is None or header.dtype.kind not in "fiubUS" or not self.shape:
            raise InputError(
                f"{file}: expected an array of numbers or texts, found {header.dtype or 'another type'} of "
                f"shape {self.shape}" + ("; arrays of Python objects may run code" * (header.dtype == object))
            )
        self.dtype: np.dtype = header.dtype
        declared = self._start + math.prod(self.shape) * self.dtype.itemsize
        if declared > file.size:
            raise InputError(
                f"{file}: expected {declared} bytes, as declared for shape {self.shape} of {self.dtype}, "
                f"found {file.size}"
            )

    def load(self) -> np.ndarray:
        """Read the whole array. Raises InputError if it has more than MAX_LOADED_BYTES."""
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > MAX_LOADED_BYTES:
            raise InputError(f"{self.file}: expected at most {MAX_LOADED_BYTES} bytes, found {size}")
        with _Reading(self, self._start) as reading:
            array = reading.values(self.shape[::-1] if self._fortran_order else self.shape)
        return array.T if self._fortran_order else array

    def blocks(self, sizes: Iterable[int], skip: int = 0) -> Iterator[np.ndarray]:
        """Yield arrays of so many rows each, one after another, which may be written to.

        sizes: rows of each; skip: rows ahead of the first of them.

        Raises InputError for a block of more than MAX_BLOCK_BYTES, or where the file turns out to be broken.
        """
        if self._fortran_order:
            yield from self._blocks_in_fortran_order(sizes, skip)
            return
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        with _Reading(self, self._start + skip * row_bytes) as reading:
            for size in sizes:
                self._check_block(size, size * row_bytes)
                yield reading.values((size, *self.shape[1:]))

    def rows(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yield the rows from `start` on, such as a clip each; see `blocks`."""
        yield from chain.from_iterable(self.some_rows(start))

    def some_rows(self, start: int = 0) -> Iterator[np.ndarray]:
        """Yield the rows from `start` on, some at a time, as many as are fast to read; see `blocks`."""
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        several = max(min(_READ_AT_ONCE, MAX_BLOCK_BYTES) // max(row_bytes, 1), 1)
        sizes = (min(several, self.shape[0] - first) for first in range(start, self.shape[0], several))
        yield from self.blocks(sizes, start)

    def _check_block(self, rows, size):
        if size > MAX_BLOCK_BYTES:
            raise InputError(
                f"{self.file}: expected clips of at most {MAX_BLOCK_BYTES} bytes, found one of {rows} "
                f"{'row' if rows == 1 else 'rows'} of shape {self.shape[1:]}, {size} bytes"
            )

    def _blocks_in_fortran_order(self, sizes, skip):
        """A row lies all over the file: many are fetched at a time, through a map of the file."""
        if self.file.member:
            whole = self.load()
            for size in sizes:
                self._check_block(size, whole[:size].nbytes)
                yield whole[skip : skip + size]
                skip += size
            return
        row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        first = last = skip
        fetched = None
        for size in sizes:
            self._check_block(size, size * row_bytes)
            if skip + size > last:
                first, last = skip, skip + max(size, MAX_BLOCK_BYTES // max(row_bytes, 1))
                mapped = np.memmap(self.file.path, self.dtype, "r", self._start, self.shape, order="F")
                fetched = np.ascontiguousarray(mapped[first:last])
            yield fetched[skip - first : skip - first + size]
            skip += size


def entries_of(path: Path) -> set[str]:
    """Find the names of an archive's arrays; none of anything else."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except BROKEN:
        return set()


class _Reading:
    """An array's values from a place in its file on; what goes wrong meanwhile is an InputError naming it.

    Out of a map of the file where there can be one: reading would copy them once more.
    """

    def __init__(self, array, place):
        self.array, self.place = array, place
        self.map, self.let_go = None, 0  # up to where pages were given back

    def __enter__(self):
        try:
            self.stream = self.array.file.open()
            self.map = None if self.array.file.member else _map_of(self.stream)
            if self.map is None:
                self.stream.seek(self.place)
        except BROKEN as error:
            self._complain(error)
        return self

    def values(self, shape):
        values = np.empty(shape, self.array.dtype)
        if self.map is None:
            read_into(self.stream, values)
            return values
        if not _skeleton_io.copy_mapped(self.map, self.place, values):
            raise EOFError("the file was cut short")
        self.place += values.nbytes
        behind = (self.place - self.let_go) // _LET_GO * _LET_GO
        if behind:
            self.map.madvise(mmap.MADV_DONTNEED, self.let_go, behind)
            self.let_go += behind
        return values

    def __exit__(self, kind, error, trace):
        if self.map is not None:
            self.map.close()
        self.stream.close()
        if isinstance(error, BROKEN) and not isinstance(error, InputError):
            self._complain(error)

    def _complain(self, error):
        raise InputError(f"{self.array.file}: expected a whole array, found: {printable(error)}") from None


def _map_of(stream):
    """Map a file, to be gone through from front to back; None where that cannot be done."""
    if not (_skeleton_io and hasattr(mmap, "MADV_DONTNEED")):
        return None
    try:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        return None
    mapped.madvise(mmap.MADV_SEQUENTIAL)
    return mapped
