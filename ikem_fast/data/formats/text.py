"""Numbers in text files, as sensors and other programs write them.

They are parsed in C++ (`csrc/skeleton/numbers.h`) where that is built and the text is nothing but numbers;
otherwise by the readers below: the same arrays, and what is wrong where it is no table.
"""

import codecs
import contextlib
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ikem_fast.data.formats.bodies import to_float32
from ikem_fast.data.native import _skeleton_io
from ikem_fast.errors import printable

_LOOKED_INTO = 1 << 16  # bytes, by which it is told what commas are
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_COMMA, _OTHER_SIGN = re.compile(rb"\d,\d"), re.compile(rb"\d[ \t]*;|\d[ \t]+[-+\d]")
_AXIS = re.compile(r"(?<![A-Za-z])[xyzXYZ](?![A-Za-z])|(?<=[a-z0-9])[XYZ]$")  # x, hip_x, x1, hipX
_SPACES = bytes.maketrans(b",;", b"  ")


def as_numbers(content: bytes) -> np.ndarray:
    """Read all numbers of a text: between spaces, commas or semicolons, on lines of any ending.

    Raises ValueError quoting what is no number.
    """
    content = _as_it_means(content)
    if (parsed := _parsed(content)) is not None:
        return parsed[0]
    words = content.translate(_SPACES).split()
    try:
        return np.fromiter(map(_as_number, words), np.float64, len(words))
    except ValueError as error:
        raise ValueError(f"expected numbers, found {error}") from None


def as_rows(content: bytes, columns: int | None = None) -> np.ndarray:
    """Read a table of numbers, a line a row: (lines, columns). Lines that are empty are passed over.

    columns: how many numbers a line has to have; as many as the first, if not given.

    Raises ValueError for lines of other lengths, or what is no number.
    """
    content = _as_it_means(content)
    parsed = _parsed(content)
    if parsed is not None and parsed[1] and parsed[1] == (columns or parsed[1]):
        return parsed[0].reshape(-1, parsed[1])
    content = content.translate(_SPACES).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content.decode("latin-1").strip():  # as NumPy sees it
        return np.zeros((0, columns or 0))
    try:
        rows = np.loadtxt(io.BytesIO(content), comments=None, ndmin=2)
    except ValueError as error:
        _check_lines(content, columns)
        raise ValueError(f"expected numbers, found: {printable(error, 100)}") from None
    if rows.shape[1] != (columns or rows.shape[1]):
        _check_lines(content, columns)
    return rows


def as_table(content: bytes) -> np.ndarray:
    """Read a table of numbers, as `as_rows` does, whose first line may name its columns.

    Raises ValueError for what is none, or names in another order than x, y, z of one joint after the other.
    """
    parts = re.split(rb"\r\n|\n|\r", content, maxsplit=1)
    if len(parts) < 2 or is_numbers(parts[0]):
        return as_rows(content)
    _check_names(parts[0].removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace"))
    return as_rows(b"\n" + parts[1])


def is_numbers(line: bytes) -> bool:
    """Say whether a line has numbers alone, or nothing."""
    try:
        return bool(as_rows(line).size) or not line.strip()
    except ValueError:
        return False


def _check_names(line):
    axes = [axis[-1].lower() for name in re.split(r"[,;\t]|\s+", line) if (axis := _AXIS.findall(name))]
    if len(axes) > 1 and not re.fullmatch("(xyz)+|(xy)+", "".join(axes)):
        shown = ", ".join(axes[:6]) + (", …" if len(axes) > 6 else "")
        raise ValueError(
            f"expected columns x, y, z or x, y of one joint after the other, found {shown} in the first "
            "line; write them in that order"
        )


def _parsed(content):
    """(numbers, how many a line has, or 0 where lines differ); None where there may be something else."""
    return _skeleton_io.parse_table(content) if _skeleton_io else None


def _as_number(word):
    if b"_" not in word:  # which Python's float takes between digits
        with contextlib.suppress(ValueError):
            return float(word)
    raise ValueError(printable(repr(word.decode("utf-8", "replace")), 60))


def _check_lines(content, columns):
    """Say which line has something else than numbers, or not as many as the first, or as it should have."""
    for number, line in enumerate(io.BytesIO(content), 1):
        try:
            found = sum(1 for _ in map(_as_number, line.split()))
        except ValueError as error:
            raise ValueError(f"expected numbers, found {error} in line {number}") from None
        columns = columns or found
        if found and found != columns:
            raise ValueError(f"expected {columns} numbers a line, found {found} in line {number}")


def _as_it_means(content):
    """The text without a mark of the byte order, which some editors write; UTF-16, as of tables, as UTF-8.

    Raises ValueError where commas look like those of decimal numbers.
    """
    if content.startswith(_UTF16):
        content = content.decode("utf-16", "replace").encode("utf-8", "replace")
    content = content.removeprefix(b"\xef\xbb\xbf")
    begin = content[:_LOOKED_INTO]
    if b"," in begin and b"." not in begin and _COMMA.search(begin) and _OTHER_SIGN.search(begin):
        raise ValueError(
            "expected numbers with decimal points, found commas in them and other signs between; write "
            "0.5 for 0,5 or, if these are whole numbers, commas alone between them"
        )
    return content


def in_order(joints: np.ndarray) -> np.ndarray:
    """Make a raw clip (3, F, V, 1) of coordinates (F, V, 3); numbers beyond float32 become infinite."""
    return to_float32(joints.transpose(2, 0, 1)[..., None])


def places_of(names: Sequence[str], found: Sequence[str], what: str) -> list[int]:
    """Find where each name is among those of a file. Raises ValueError for one not there, or twice."""
    listed = printable(", ".join(found[:50]))
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"expected {what} {', '.join(missing[:5])}, found {listed}")
    if twice := [name for name in names if found.count(name) > 1]:
        raise ValueError(f"expected {what} of different names, found {', '.join(twice[:5])} twice: {listed}")
    return [found.index(name) for name in names]


def described(check: Callable[[Any], bool], value: Any, expected: str) -> Any:
    """Return a value of a parsed file. Raises ValueError where it is not as expected."""
    if not check(value):
        raise ValueError(f"expected {expected}, found {printable(repr(value), 60)}")
    return value
