"""Numbers in text files, as sensors and other programs write them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ikem_fast.errors import printable


def as_numbers(content: bytes) -> np.ndarray:
    """Read all numbers of a text: between spaces, commas or semicolons, on lines of any ending.

    Raises ValueError quoting what is no number.
    """
    words = content.removeprefix(b"\xef\xbb\xbf").translate(_SPACES).split()
    try:
        return np.array(words, np.float64)
    except ValueError as error:
        raise ValueError(f"expected numbers, found: {printable(error, 100)}") from None


def as_rows(content: bytes, columns: int | None = None) -> np.ndarray:
    """Read a table of numbers, a line a row: (lines, columns). Lines that are empty are passed over.

    columns: how many numbers a line has to have; as many as the first, if not given.

    Raises ValueError for lines of other lengths, or what is no number.
    """
    lines = content.removeprefix(b"\xef\xbb\xbf").translate(_SPACES).splitlines()
    rows = [words for line in lines if (words := line.split())]
    columns = columns or (len(rows[0]) if rows else 0)
    for number, row in enumerate(rows, 1):
        if len(row) != columns:
            raise ValueError(f"expected {columns} numbers a line, found {len(row)} in line {number}")
    return as_numbers(b" ".join(word for row in rows for word in row)).reshape(len(rows), columns)


_SPACES = bytes.maketrans(b",;\t", b"   ")


def in_order(joints: np.ndarray) -> np.ndarray:
    """Make a raw clip (3, F, V, 1) of coordinates (F, V, 3)."""
    return np.ascontiguousarray(joints.transpose(2, 0, 1)[..., None], dtype=np.float32)


def described(check: Callable[[Any], bool], value: Any, expected: str) -> Any:
    """Return a value of a parsed file. Raises ValueError where it is not as expected."""
    if not check(value):
        raise ValueError(f"expected {expected}, found {printable(repr(value), 60)}")
    return value
