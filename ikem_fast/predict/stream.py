"""A stream of frames, one JSON line each, in windows that slide over it."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ikem_fast.data.preprocess import Skipped
from ikem_fast.errors import printable

MAX_LINE = 1 << 20  # characters
MAX_WINDOW = 1 << 14  # frames
EXPECTED = "a JSON line of joints [[x, y, z], …], of bodies [[[x, y, z], …], …], or [] for nobody"


class Window(NamedTuple):
    """Consecutive frames of a stream.

    first, last: which, from 0.
    clip: (3,F,V,M) float32, zero where a body is not there.
    """

    first: int
    last: int
    clip: np.ndarray


def windows(
    lines: Iterable[str], *, joints: int, bodies: int, length: int, stride: int
) -> Iterator[Window | Skipped]:
    """Yield a window of `length` frames, and another whenever `stride` more have come.

    Where the stream ends, the frames since the last window are in one more; of fewer frames than a window,
    all are in one. A line that is no frame is `Skipped`, with its number, and nobody was there.

    Args:
        lines: each a frame: a list of V joints [x, y, z], of up to M bodies of them, or an empty one.
        joints: V.
        bodies: M; those beyond are left out.
        length, stride: in frames.

    Example:
        list(windows(["[[0, 0, 0], [0, 1, 0]]"] * 5, joints=2, bodies=1, length=4, stride=1))  # two windows
    """
    recent: deque[np.ndarray] = deque(maxlen=length)
    count, answered = 0, 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        frame = _frame(line, joints, bodies)
        if isinstance(frame, Skipped):
            yield Skipped(f"line {number}: {frame.reason}")
            frame = np.zeros((3, joints, bodies), np.float32)
        recent.append(frame)
        count += 1
        if count >= length and (answered == 0 or count - answered >= stride):
            answered = count
            yield _window(recent, count)
    if count > answered:
        yield _window(recent, count)


def _window(frames, count):
    return Window(count - len(frames), count - 1, np.stack(frames, 1))


def _frame(line, joints, bodies):
    """(3,V,M) of a line, or why it is none."""
    if len(line) > MAX_LINE:
        return Skipped(f"expected at most {MAX_LINE} characters, found {len(line)}")
    try:
        values = np.array(json.loads(line), dtype=np.float32)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return Skipped(f"expected {EXPECTED}, found: {printable(error, 80)}")
    frame = np.zeros((3, joints, bodies), np.float32)
    if values.size == 0 and values.ndim <= 3:
        return frame
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.shape[1:] != (joints, 3):
        return Skipped(f"expected {joints} joints of 3 coordinates, found an array of shape {values.shape}")
    there = values[:bodies]
    frame[..., : len(there)] = there.transpose(2, 1, 0)
    return frame
