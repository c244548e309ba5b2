"""Numbers in text files, as sensors and other programs write them."""

import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ikem_fast.data.formats.bodies import to_float32
from ikem_fast.errors import printable

_LOOKED_INTO = 1 << 16  # bytes, by which it is told what commas are
_COMMA, _OTHER_SIGN = re.compile(rb"\d,\d"), re.compile(rb"\d[ \t]*;|\d[ \t]+[-+\d]")
_SPACES = bytes.maketrans(b",;", b"  ")


def as_numbers(content: bytes) -> np.ndarray:
    """Read all numbers of a text: between spaces, commas or semicolons, on lines of any ending.

    Raises ValueError quoting what is no number.
    """
    words = _parted_by_spaces(content).split()
    try:
        if b"_" in content:  # which Python's float takes between digits
            raise ValueError(f"{next(word for word in words if b'_' in word)!r}")
        return np.fromiter(map(float, words), np.float64, len(words))
    except ValueError as error:
        raise ValueError(f"expected numbers, found: {printable(error, 100)}") from None


def as_rows(content: bytes, columns: int | None = None) -> np.ndarray:
    """Read a table of numbers, a line a row: (lines, columns). Lines that are empty are passed over.

    columns: how many numbers a line has to have; as many as the first, if not given.

    Raises ValueError for lines of other lengths, or what is no number.
    """
    content = _parted_by_spaces(content)
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content or content.isspace():
        return np.zeros((0, columns or 0))
    try:
        rows = np.loadtxt(io.BytesIO(content), comments=None, ndmin=2)
    except ValueError as error:
        _check_lengths(content, columns)
        raise ValueError(f"expected numbers, found: {printable(error, 100)}") from None
    if rows.shape[1] != (columns or rows.shape[1]):
        _check_lengths(content, columns)
    return rows


def _check_lengths(content, columns):
    """Say which line is of another length than the first, or than it should be."""
    rows = [line.split() for line in content.splitlines()]
    columns = columns or len(next(filter(None, rows)))
    for number, row in enumerate(rows, 1):
        if row and len(row) != columns:
            raise ValueError(f"expected {columns} numbers a line, found {len(row)} in line {number}")


def _parted_by_spaces(content):
    """The text without a mark of the byte order, which some editors write, or commas and semicolons.

    Raises ValueError where commas look like those of decimal numbers.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    begin = content[:_LOOKED_INTO]
    if b"," in begin and b"." not in begin and _COMMA.search(begin) and _OTHER_SIGN.search(begin):
        raise ValueError(
            "expected numbers with decimal points, found commas in them and other signs between; write "
            "0.5 for 0,5 or, if these are whole numbers, commas alone between them"
        )
    return content.translate(_SPACES) if b"," in content or b";" in content else content


def in_order(joints: np.ndarray) -> np.ndarray:
    """Make a raw clip (3, F, V, 1) of coordinates (F, V, 3); numbers beyond float32 become infinite."""
    return to_float32(joints.transpose(2, 0, 1)[..., None])


def described(check: Callable[[Any], bool], value: Any, expected: str) -> Any:
    """Return a value of a parsed file. Raises ValueError where it is not as expected."""
    if not check(value):
        raise ValueError(f"expected {expected}, found {printable(repr(value), 60)}")
    return value
