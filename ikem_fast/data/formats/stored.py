"""Arrays of a pickle whose values are still in its file."""

import math
import os
import re
from typing import Any, Literal

import numpy as np

from ikem_fast.data.formats.npy import BROKEN
from ikem_fast.data.headers import read_exactly
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError, printable

MAX_ARRAY_BYTES = 1 << 26


class StoredBytes:
    """The bytes of a file, read from any place; in a compressed member, forth, or else from its beginning.

    The file stays open: opening it for every array costs as much as reading that.
    """

    def __init__(self, file: SourceFile) -> None:
        self._file, self._stream = file, file.open()

    def read(self, at: int, size: int) -> bytes:
        """Read bytes from a place on. Raises EOFError where there are fewer."""
        if self._file.member is None and hasattr(os, "pread"):
            content = os.pread(self._stream.fileno(), size, at)
            if len(content) == size:
                return content
        if at != self._stream.tell():
            self._stream.seek(at)
        return read_exactly(self._stream, size)

    def __del__(self) -> None:
        if hasattr(self, "_stream"):
            self._stream.close()


class StoredArray:
    """An array of which the values may still be in the pickle's file.

    shape, dtype: known ahead of them.
    objects: the values of an array of Python objects, which has no others.
    """

    shape: tuple[int, ...] = ()
    dtype: np.dtype = np.dtype("f4")
    objects: list | None = None
    _order: Literal["C", "F"] = "C"
    _values: Any = b""

    def __init__(self, file: SourceFile, stored: StoredBytes):
        self._file, self._stored = file, stored

    def load(self) -> np.ndarray:
        """Read the values. Raises InputError for more than MAX_ARRAY_BYTES, or other than declared."""
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > MAX_ARRAY_BYTES or self.objects is not None:
            found = "objects" if self.objects is not None else f"{size}"
            raise InputError(
                f"{self._file}: expected numbers in at most {MAX_ARRAY_BYTES} bytes, found {found}"
            )
        try:
            return np.frombuffer(self._content(size), self.dtype).reshape(self.shape, order=self._order)
        except BROKEN as error:
            raise InputError(f"{self._file}: expected a whole array, found: {printable(error)}") from None

    def _content(self, size):
        values = self._values
        if isinstance(values, LeftBytes):
            values = values.decode(self._stored.read(values.at, values.size))
        if isinstance(values, str):  # protocol 2 has no bytes of its own
            values = values.encode("latin-1", "replace")
        if len(values) != size:
            raise ValueError(f"{len(values)} bytes for shape {self.shape} of {self.dtype}")
        return values

    def set(self, shape: Any, dtype: Any, fortran_order: bool, values: Any) -> None:
        """Take what an array was pickled with. Raises ValueError for what no array can be of."""
        sizes_are_valid = isinstance(shape, tuple) and all(
            isinstance(n, int) and 0 <= n < 1 << 40 for n in shape
        )
        if not sizes_are_valid or not isinstance(dtype, StoredType) or len(shape) > 8:
            raise ValueError("expected an array's shape and type, found something else")
        self.shape, self.dtype = shape, dtype.dtype
        if self.dtype == object and isinstance(values, list) and len(shape) == 1:
            self.objects = values
            return
        if self.dtype == object or not isinstance(values, bytes | str | LeftBytes):
            raise ValueError(f"expected an array's values to be bytes, found {type(values).__name__}")
        self._values = values
        self._order = "F" if fortran_order else "C"


class LeftBytes:
    """Bytes that were left in the file: where, how many, and how they become an array's values."""

    def __init__(self, at, size, decode=lambda content: content):
        self.at, self.size, self.decode = at, size, decode


class StoredType:
    """A NumPy dtype under way: its byte order comes after its name."""

    def __init__(self, name, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[fiub]\d{1,2}|[US]\d{1,4}|O8?", name):
            raise ValueError(f"expected an array of numbers or texts, found type {printable(name, 40)!r}")
        self.dtype = np.dtype(name)

    def set(self, state):
        if not (isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "=")):
            raise ValueError("expected a plain NumPy type, found one with fields or of its own")
        if any(part is not None for part in state[2:5]):
            raise ValueError("expected a plain NumPy type, found one with fields")
        self.dtype = self.dtype.newbyteorder(state[1])


def as_list(value: Any, what: str) -> list:
    """Take a list, a tuple or a flat array of a pickle as a list of plain values.

    Raises ValueError saying `what` it is that was expected to be one.
    """
    if isinstance(value, StoredArray) and len(value.shape) == 1:
        return value.objects if value.objects is not None else value.load().tolist()
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError(f"expected {what} as a list, found {type(value).__name__}")
