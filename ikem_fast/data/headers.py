"""The headers of .npy files, which are Python literals: read without Python's parser.

Source: NumPy's "Format specification" (NEP 1), versions 1 to 3.
"""

import re
import struct
from typing import IO, NamedTuple

import numpy as np

from ikem_fast.errors import printable

MAGIC = b"\x93NUMPY"


class Header(NamedTuple):
    """dtype: None where it is not a plain one."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype | None


_MAX_HEADER_BYTES = 1 << 14
_DESCR = re.compile(r"'descr': *(?:'([<>=|]?[a-zA-Z]\d{0,9}(?:\[\w{1,9}\])?)'|\[)")
_ORDER = re.compile(r"'fortran_order': *(True|False)")
_SHAPE = re.compile(r"'shape': *\(((?:\d{1,18}, *){0,31}(?:\d{1,18})?)\)")


def read_header(stream: IO[bytes], entry: str) -> Header:
    """Read the header of an .npy file. It is a Python literal, of which this reads the three values alone.

    NumPy hands it to Python's parser, which may raise anything, or run out of memory, on what is no literal.

    Raises ValueError or EOFError where there is none.
    """
    start = stream.read(len(MAGIC) + 2)
    form = "<H" if start[-2:-1] == b"\x01" else "<I"  # how the version writes the header's length
    (size,) = struct.unpack(form, read_exactly(stream, struct.calcsize(form)))
    if start[:-2] != MAGIC or size > _MAX_HEADER_BYTES:
        raise ValueError(f"no NumPy array in {printable(entry)!r}")
    text = read_exactly(stream, size).decode("latin-1")
    descr, order, shape = (pattern.search(text) for pattern in (_DESCR, _ORDER, _SHAPE))
    if not (descr and order and shape):
        raise ValueError(f"no header of a NumPy array in {printable(entry)!r}: '{printable(text, 60)}'")
    try:
        dtype = np.dtype(descr[1]) if descr[1] else None
    except TypeError:
        dtype = None
    sizes = tuple(int(size) for size in shape[1].split(",") if size.strip())
    return Header(sizes, order[1] == "True", dtype)


def read_exactly(stream: IO[bytes], size: int) -> bytes:
    """Read so many bytes. Raises EOFError where there are fewer."""
    content = stream.read(size)
    _check_left(len(content), size)
    return content


def read_into(stream: IO[bytes], buffer: np.ndarray) -> None:
    """Read as many bytes as a contiguous array has into it. Raises EOFError where there are fewer."""
    _check_left(stream.readinto(buffer), buffer.nbytes)


def _check_left(found, expected):
    if found != expected:
        raise EOFError(f"{expected} bytes expected, {found} left")
