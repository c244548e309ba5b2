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
        self._stream = file.open()
        self._anywhere = file.member is None and hasattr(os, "preadv")  # without going there first

    def read(self, at: int, size: int) -> bytes:
        """Read bytes from a place on. Raises EOFError where there are fewer."""
        if self._anywhere:
            content = os.pread(self._stream.fileno(), size, at)
            if len(content) == size:
                return content
        if at != self._stream.tell():
            self._stream.seek(at)
        return read_exactly(self._stream, size)

    def read_into(self, at: int, buffer: np.ndarray) -> None:
        """Read as many bytes as a buffer has into it. Raises EOFError if there are fewer."""
        if self._anywhere and os.preadv(self._stream.fileno(), [buffer.data], at) == len(buffer):
            return
        buffer[:] = np.frombuffer(self.read(at, len(buffer)), np.uint8)

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
    _axes: tuple[int, ...] | None = None  # in which order those of the values become those of the array
    _values: Any = b""

    def __init__(self, file: SourceFile, stored: StoredBytes):
        self._file, self._stored = file, stored

    def load(self) -> np.ndarray:
        """Read the values, an array of its own.

        Raises InputError for more than MAX_ARRAY_BYTES, or other than declared.
        """
        size = math.prod(self.shape) * self.dtype.itemsize
        if size > MAX_ARRAY_BYTES or self.objects is not None:
            found = "objects" if self.objects is not None else f"{size}"
            raise InputError(
                f"{self._file}: expected numbers in at most {MAX_ARRAY_BYTES} bytes, found {found}"
            )
        try:
            values = self._content(size).view(self.dtype)
            if self._axes is None:
                return values.reshape(self.shape, order=self._order)
            return values.reshape(self._stored_shape).transpose(self._axes)
        except BROKEN as error:
            raise InputError(f"{self._file}: expected a whole array, found: {printable(error)}") from None

    def _content(self, size):
        """The bytes of all values, an array of its own."""
        values = self._values
        if isinstance(values, LeftBytes):
            content = np.empty(self._checked(values.size, size, 1 + (values.decode is not None)), np.uint8)
            self._stored.read_into(values.at, content)
            content = values.decode(content) if values.decode else content
        else:  # a text: protocol 2 has no bytes of its own
            values = values.encode("latin-1", "replace") if isinstance(values, str) else values
            content = np.frombuffer(values, np.uint8).copy()
        self._checked(len(content), size)
        return content

    def _checked(self, found, size, times=1):
        if not size <= found <= size * times:
            raise ValueError(f"{found} bytes for shape {self.shape} of {self.dtype}")
        return found

    def __setstate__(self, state: Any) -> None:
        """Take what an array is pickled with: version, shape, dtype, whether in Fortran order, values."""
        if type(state) is not tuple or len(state) != 5:
            raise ValueError("expected an array's state, found something else")
        _, shape, dtype, fortran_order, values = state
        self.set(shape, dtype, bool(fortran_order), values)

    def set(self, shape: Any, dtype: Any, fortran_order: bool, values: Any) -> None:
        """Take what an array was pickled with. Raises ValueError for what no array can be of."""
        if type(shape) is not tuple or type(dtype) is not StoredType or len(shape) > 8:
            raise ValueError("expected an array's shape and type, found something else")
        for size in shape:
            if type(size) is not int or not 0 <= size < 1 << 40:
                raise ValueError(f"expected an array's shape, found {printable(shape, 60)}")
        self.shape, self.dtype = shape, dtype.dtype
        of_objects = self.dtype.kind == "O"
        if of_objects and isinstance(values, list) and len(shape) == 1:
            if any(isinstance(value, dict | list | tuple | set | frozenset) for value in values):
                raise ValueError("expected an array of texts or numbers, found containers in it")
            self.objects = values
            return
        if of_objects or not isinstance(values, _VALUES):
            raise ValueError(f"expected an array's values to be bytes, found {type(values).__name__}")
        self._values, self._axes = values, None
        self._order = "F" if fortran_order else "C"

    def exchange(self, axes: Any) -> None:
        """Take the order that the array's axes have in its values. Raises ValueError where it is none."""
        if type(axes) is not tuple or sorted(axes) != list(range(len(self.shape))):
            raise ValueError("expected an order of an array's axes, found something else")
        self._axes, self._stored_shape = axes, self.shape
        self.shape = tuple(self.shape[axis] for axis in axes)


class LeftBytes:
    """Bytes that were left in the file: where, how many, and how they become values, if not as they are.

    decode: from their array, which it may write to, to the values', at least half as long.
    """

    def __init__(self, at, size, decode=None):
        self.at, self.size, self.decode = at, size, decode

    def __setstate__(self, state):
        raise ValueError("a state for bytes, which take none")


class StoredType:
    """A NumPy dtype under way: its byte order comes after its name."""

    def __init__(self, name, *_):
        if not isinstance(name, str) or not re.fullmatch(r"[fiub]\d{1,2}|[US]\d{1,4}|O8?", name):
            raise ValueError(f"expected an array of numbers or texts, found type {printable(name, 40)!r}")
        self.dtype = np.dtype(name)

    def __setstate__(self, state):
        if not (isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|", "=")):
            raise ValueError("expected a plain NumPy type, found one with fields or of its own")
        if any(part is not None for part in state[2:5]):
            raise ValueError("expected a plain NumPy type, found one with fields")
        self.dtype = np.dtype(self.dtype.newbyteorder(state[1]).str)  # the one that there is of plain types


_VALUES = (LeftBytes, bytes, bytearray, str)  # what an array's values come as


def as_list(value: Any, what: str) -> list:
    """Take a list, a tuple or a flat array of a pickle as a list of plain values.

    Raises ValueError saying `what` it is that was expected to be one.
    """
    if isinstance(value, StoredArray) and len(value.shape) == 1:
        return value.objects if value.objects is not None else value.load().tolist()
    if isinstance(value, list | tuple):
        return list(value)
    raise ValueError(f"expected {what} as a list, found {type(value).__name__}")
