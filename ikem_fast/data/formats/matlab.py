"""One numeric variable out of a MATLAB 5 file, the form that MATLAB's `save` has had since 1996.

A file is a header of 128 bytes and elements: a type, a size, that many bytes. An element may be another one
compressed by zlib; a variable is an element of elements (flags, dimensions, name, values). Only what arrays
of real numbers need is read, every size is held against what is there, and compressed bytes give no more
than MAX_BYTES. Source: "MAT-File Format" (The MathWorks), level 5.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

MAX_BYTES = 1 << 22  # of what a file's variables decompress to; UTD-MHAD's largest has 60 kB
_HEADER_BYTES = 128
_INT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 5, 6, 14, 15
_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "<i2",
    4: "<u2",
    5: "<i4",
    6: "<u4",
    7: "<f4",
    9: "<f8",
    12: "<i8",
    13: "<u8",
}
_NUMERIC_CLASSES = range(6, 16)  # double, single, and integers of 8 to 64 bits
_COMPLEX = 0x0800


def read_variable(content: bytes, name: str) -> np.ndarray:
    """Read the variable `name`, an array of real numbers, out of the bytes of a file.

    Returns an array of the variable's shape, in the type that its values are stored in.

    Raises ValueError saying what was expected and what was found.
    """
    if len(content) < _HEADER_BYTES or content[124:128] != b"\x00\x01IM":
        raise ValueError("expected a MATLAB 5 file, little endian, found something else")
    left = MAX_BYTES
    for kind, data in _elements(memoryview(content)[_HEADER_BYTES:]):
        if kind == _COMPRESSED:
            data = _decompress(data, left)
            left -= len(data)
            kind, data = _next(_elements(memoryview(data)))
        if kind != _MATRIX:
            raise ValueError(f"expected a MATLAB file of variables, found an element of type {kind}")
        parts = _elements(data)
        flags, dimensions, found = (_part(parts, wanted) for wanted in (_UINT32, _INT32, _INT8))
        if bytes(found) == name.encode():
            return _array(name, flags, dimensions, parts)
    raise ValueError(f"expected a MATLAB file with a variable {name!r}, found none")


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (type, bytes) of the elements one after another. An element of up to 4 bytes has a short tag."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("expected an element of a MATLAB file, found the end of the file")
        kind, size = struct.unpack_from("<II", data, at)
        start, short = at + 8, kind >> 16
        if short:
            kind, size, start = kind & 0xFFFF, short, at + 4
        if size > (4 if short else len(data) - start):
            raise ValueError(f"expected an element of {size} bytes, found {len(data) - start} left")
        yield kind, data[start : start + size]
        end = start + size
        at = end if kind == _COMPRESSED else end + -end % 8  # all others are padded


def _next(parts):
    """Of the next element; (None, b"") where there is none."""
    return next(parts, (None, b""))


def _part(parts, wanted):
    kind, data = _next(parts)
    if kind != wanted:
        raise ValueError(f"expected a part of type {wanted} in a variable, found type {kind}")
    return data


def _decompress(data, limit):
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise ValueError(f"expected bytes compressed by zlib, found: {error}") from None
    if len(content) > limit:
        raise ValueError(f"expected variables of at most {MAX_BYTES} bytes, found more")
    if not stream.eof:
        raise ValueError("expected bytes compressed by zlib, found the end of them missing")
    return content


def _array(name, flags, dimensions, parts):
    if len(flags) != 8 or len(dimensions) % 4 or not 8 <= len(dimensions) <= 128:
        raise ValueError(f"expected {name!r} to be an array, found flags and dimensions of other sizes")
    word = int.from_bytes(flags[:4], "little")
    if (word & 0xFF) not in _NUMERIC_CLASSES or word & _COMPLEX:
        raise ValueError(
            f"expected {name!r} to be real numbers, found class {word & 0xFF} of flags {word:#x}"
        )
    shape = struct.unpack(f"<{len(dimensions) // 4}i", dimensions)
    kind, values = next(parts, (None, b""))
    if kind not in _NUMBERS:
        raise ValueError(f"expected values of {name!r} to be numbers, found type {kind}")
    dtype, count = np.dtype(_NUMBERS[kind]), 1
    for size in shape:
        count *= size
    if min(shape) < 0 or count * dtype.itemsize != len(values):
        raise ValueError(f"expected values of shape {shape}, {dtype.name}, found {len(values)} bytes of them")
    return np.frombuffer(values, dtype).reshape(shape, order="F")
