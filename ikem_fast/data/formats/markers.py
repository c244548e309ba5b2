"""Points out of a C3D file, the form that motion-capture systems have had since 1987.

A file is blocks of 512 bytes: a header, parameters by group and name, then frames one behind the other, each
of points (x, y, z, a residual) and of analog samples, which are passed over. Numbers are integers times a
scale, or floats. Only what points need is read, and every size is held against what is there. Source: "The
C3D File Format" (Motion Lab Systems), https://www.c3d.org/docs/C3D_User_Guide.pdf.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

_BLOCK = 512
_KEY = 0x50  # second byte of the header and of the parameters
_ORDERS = {84: "<", 86: ">"}  # of bytes, by the processor that wrote the file: Intel, SGI
_SIZES = {-1: 1, 1: 1, 2: 2, 4: 4}  # bytes of a value, by its type: texts, bytes, integers, floats
_FORMS = {1: "b", 2: "h", 4: "f"}
_MAX_POINTS = 1 << 16


class Points(NamedTuple):
    """What a file holds.

    positions: (F, V, 3) float64; NaN where the cameras lost a point.
    labels: of the points, as far as they have some.
    rate: frames a second.
    """

    positions: np.ndarray
    labels: list[str]
    rate: float


class _Parameter(NamedTuple):
    kind: int
    dimensions: tuple[int, ...]
    data: bytes

    def numbers(self, order):
        """Its values; integers are of 16 bits, counts among them without a sign."""
        if self.kind not in _FORMS:
            raise ValueError("expected a parameter of numbers, found texts")
        return np.frombuffer(self.data, np.dtype(f"{order}{_FORMS[self.kind]}")).tolist()

    def texts(self):
        """Its values, of the first dimension's length each."""
        if self.kind != -1 or not self.dimensions:
            raise ValueError("expected a parameter of texts, found numbers")
        size = max(self.dimensions[0], 1)
        pieces = (self.data[at : at + size] for at in range(0, len(self.data), size))
        return [piece.decode("utf-8", "replace").strip(" \0") for piece in pieces]


def read_points(content: bytes) -> Points:
    """Read the points out of the bytes of a file.

    Raises ValueError saying what was expected and what was found.
    """
    if len(content) < 2 * _BLOCK or content[1] != _KEY:
        raise ValueError("expected a C3D file, found something else")
    start = (content[0] - 1) * _BLOCK
    if start < 0 or start + 4 > len(content):
        raise ValueError(f"expected parameters in block {content[0]}, found the end of the file")
    processor = content[start + 3]
    if processor not in _ORDERS:
        raise ValueError(f"expected numbers of processor 84 (Intel) or 86 (SGI), found {processor}")
    order = _ORDERS[processor]
    parameters = _parameters(memoryview(content)[start + 4 :], order)
    return _points(content, order, parameters)


def _points(content, order, parameters):
    used, analog, first, last = struct.unpack_from(f"{order}4H", content, 2)
    (scale,) = struct.unpack_from(f"{order}f", content, 12)
    (block,) = struct.unpack_from(f"{order}H", content, 16)
    (rate,) = struct.unpack_from(f"{order}f", content, 20)
    point = parameters.get("POINT", {})
    if "RATE" in point:
        rate = (point["RATE"].numbers(order) or [rate])[0]
    if not 0 < used <= _MAX_POINTS or last < first or block < 1:
        raise ValueError(f"expected points in frames, found {used} points, frames {first} … {last}")
    dtype = np.dtype(f"{order}f4" if scale < 0 else f"{order}i2")
    row, at = (4 * used + analog) * dtype.itemsize, (block - 1) * _BLOCK
    # 16 bits do not count more than 65,535 frames; a file that has more fills their number up to its end.
    there = max(len(content) - at, 0) // row
    frames = last - first + 1
    if last == 0xFFFF and "FRAMES" in point:
        frames = max(frames, min(there, _frames(point["FRAMES"], order)))
    if there < frames:
        raise ValueError(f"expected {frames} frames of {row} bytes, found {there}")
    rows = np.frombuffer(content, dtype, frames * (row // dtype.itemsize), at).reshape(frames, -1)
    with np.errstate(invalid="ignore"):  # of NaN that signal
        numbers = rows[:, : 4 * used].reshape(frames, used, 4).astype(np.float64)
    positions = numbers[..., :3] if scale < 0 else numbers[..., :3] * abs(scale)
    return Points(np.where(numbers[..., 3:] < 0, np.nan, positions), _labels(point)[:used], float(rate))


def _frames(parameter, order):
    """A count of frames: a float, or an integer without a sign."""
    number = (parameter.numbers(order) or [0])[0]
    return int(number) & 0xFFFF if parameter.kind == 2 else int(np.nan_to_num(number))


def _labels(point):
    names = sorted((name for name in point if name[:6] == "LABELS" and name[6:].isdigit()), key=_number)
    return [label for name in ("LABELS", *names) if name in point for label in point[name].texts()]


def _number(name):
    return int(name[6:9])


def _parameters(data: memoryview, order: str) -> Mapping[str, Mapping[str, _Parameter]]:
    """Group → name → parameter. Each entry says how far away the next one is."""
    groups: dict[int, str] = {}
    found: list[tuple[int, str, _Parameter]] = []
    at = 0
    while at + 2 <= len(data):
        length, group = struct.unpack_from("bb", data, at)
        length, offset = abs(length), at + 2 + abs(length)
        if not length or not group or offset + 2 > len(data):
            break
        name = bytes(data[at + 2 : offset]).decode("latin-1").upper()
        (step,) = struct.unpack_from(f"{order}H", data, offset)
        if group < 0:
            groups[-group] = name
        else:
            found.append((group, name, _parameter(data[offset + 2 :], name)))
        if not step:
            break
        at = offset + step
    named: dict[str, dict[str, _Parameter]] = {}
    for group, name, parameter in found:
        named.setdefault(groups.get(group, ""), {})[name] = parameter
    return named


def _parameter(data, name):
    if len(data) < 2 or len(data) < 2 + data[1]:
        raise ValueError(f"expected parameter {name!r}, found the end of the file")
    kind, count = struct.unpack_from("bB", data)
    dimensions = tuple(data[2 : 2 + count])
    size = _SIZES.get(kind, 0)
    for dimension in dimensions:
        size *= dimension
    if kind not in _SIZES or 2 + count + size > len(data):
        raise ValueError(f"expected parameter {name!r} of {size} bytes, found type {kind} or the file's end")
    return _Parameter(kind, dimensions, bytes(data[2 + count : 2 + count + size]))
