"""JSON of which most is numbers: read by `json`, the numbers in arrays by C++ where that is built."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ikem_fast.data.native import _skeleton_io

LEAST = 8  # numbers or objects, from which on an array is worth it


def load_json(content: bytes, keys: Sequence[str] = ()) -> Any:
    """Parse JSON; what is in it may come as arrays of NumPy, others and the whole as lists.

    keys: none, for flat arrays of numbers, LEAST or more, as (K,) float64; or for arrays of objects with a
        number by each key, LEAST or more, as (K, keys) float64.

    Raises ValueError, as `json.loads` does.

    Example:
        load_json(b'{"marks": [%s]}' % b", ".join([b'{"x": 1, "y": 2}'] * 8), "xy")["marks"].shape  # (8, 2)
    """
    pulled = _skeleton_io.pull_numbers(content, LEAST, list(keys)) if _skeleton_io else None
    if pulled is None or not pulled[2]:
        return json.loads(content)
    text, numbers, ends = pulled
    arrays = (numbers[begin:end] for begin, end in pairwise((0, *ends)))
    if keys:
        arrays = (array.reshape(-1, len(keys)) for array in arrays)
    try:
        parsed = json.loads(text, parse_constant=lambda _: next(arrays))
    except ValueError:  # json says where in the file it went wrong
        parsed = None
    return json.loads(content) if parsed is None or isinstance(parsed, np.ndarray) else parsed
