"""JSON of which most is numbers: read by `json`, the numbers in arrays by C++ where that is built."""

import json
from itertools import pairwise
from typing import Any

import numpy as np

from ikem_fast.data.native import _skeleton_io

LEAST = 8  # numbers, from which on an array is worth it


def load_json(content: bytes) -> Any:
    """Parse JSON; flat arrays of numbers, LEAST or more, may come as arrays of NumPy, others as lists.

    Raises ValueError, as `json.loads` does.
    """
    pulled = _skeleton_io.pull_numbers(content, LEAST) if _skeleton_io else None
    if pulled is None or not pulled[2]:
        return json.loads(content)
    text, numbers, ends = pulled
    arrays = (numbers[begin:end] for begin, end in pairwise((0, *ends)))
    try:
        parsed = json.loads(text, parse_constant=lambda _: next(arrays))
    except ValueError:
        return json.loads(content)  # which says where in the file it went wrong
    return parsed.tolist() if isinstance(parsed, np.ndarray) else parsed
