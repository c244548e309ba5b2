"""Arrays read out of a map of their file, which may be cut short, or cannot be mapped at all."""

import numpy as np
import pytest

from ikem_fast.data.formats import npy
from ikem_fast.data.formats.npy import NpyFile
from ikem_fast.data.native import _skeleton_io
from ikem_fast.data.preprocess import MAX_COORDINATE, is_bounded
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError

ROWS = (600, 3, 50, 25, 2)  # 18 MB: pages are given back meanwhile


@pytest.fixture
def stored(tmp_path):
    x = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    return x, tmp_path / "x.npy"


def open_array(path):
    return NpyFile(SourceFile(path))


@pytest.mark.parametrize("start", [0, 1, 7, 599, 600])
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "read"])
def test_rows_are_those_of_the_file(stored, start, mapped, monkeypatch):
    x, path = stored
    if not mapped:
        monkeypatch.setattr(npy, "_map_of", lambda stream: None)
    rows = [row.copy() for row in open_array(path).rows(start)]
    assert len(rows) == len(x) - start
    assert all(np.array_equal(row, expected) for row, expected in zip(rows, x[start:], strict=True))


def test_rows_are_ones_own(stored):
    x, path = stored
    for rows in open_array(path).some_rows():
        rows[:] = -1
    assert np.array_equal(np.load(path), x)


@pytest.mark.skipif(_skeleton_io is None, reason="the compiled readers were not built")
def test_a_file_that_is_cut_short_while_it_is_read_is_refused_and_nothing_else_ends(stored):
    _, path = stored
    array = open_array(path)
    blocks = array.some_rows()
    next(blocks)
    with path.open("r+b") as file:
        file.truncate(1 << 20)
    with pytest.raises(InputError, match=r"x\.npy: expected a whole array, found: the file was cut short"):
        list(blocks)


@pytest.mark.skipif(_skeleton_io is None, reason="the compiled readers were not built")
def test_a_copy_beyond_the_end_of_a_map_is_refused():
    mapped = bytes(range(100))
    out = np.empty(10, np.uint8)
    assert _skeleton_io.copy_mapped(mapped, 90, out) and out.tolist() == list(range(90, 100))
    for at in (91, 100, 101, 2**63):
        assert not _skeleton_io.copy_mapped(mapped, at, out)
    with pytest.raises(ValueError, match="contiguous"):
        _skeleton_io.copy_mapped(mapped, 0, np.empty((4, 4), np.uint8)[:, :2])


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000])
def test_every_number_is_held_against_the_bound(count):
    largest = np.nextafter(np.float32(MAX_COORDINATE), np.float32(0))
    x = np.full(count, -largest, np.float32)
    assert is_bounded(x)
    for at in {0, count // 2, count - 1}:
        for bad in (MAX_COORDINATE, -MAX_COORDINATE, np.inf, -np.inf, np.nan, -np.nan):
            wrong = x.copy()
            wrong[at] = bad
            assert not is_bounded(wrong), (at, bad)
