"""NW-UCLA's numbers in nested arrays: the C++ and the Python reader alike, to the bit or to the word."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast.data.formats import nw_ucla

pytestmark = pytest.mark.skipif(nw_ucla._skeleton_io is None, reason="ikem_fast._skeleton_io is not built")
POINTS = np.random.default_rng(0).normal(size=(3, 20, 3)).tolist()
NUMBERS = (
    "1", "-0", "-0.0", "+1", "01", "-01", "1.", ".5", "-.5", "1.e5", "1e5", "1E-05", "1e+5", "1e", "1e400",
    "-1e400", "1e-400", "NaN", "nan", "inf", "Infinity", "-Infinity", "null", "true", '"1"', "[1]", "{}", "",
    "--1", "-", "9007199254740993", "1" * 400, "0x1", "1_0", "1 2",
)  # fmt: skip


def outcome(content, built):
    """What the reader answers: the bits, or the words of its error."""
    extension, nw_ucla._skeleton_io = nw_ucla._skeleton_io, nw_ucla._skeleton_io if built else None
    try:
        clip = nw_ucla.parse_clip(content)
        assert clip.dtype == np.float32
        return clip.shape, np.where(np.isnan(clip), np.nan, clip).tobytes()
    except ValueError as error:
        return str(error)
    finally:
        nw_ucla._skeleton_io = extension


def alike(text):
    assert outcome(text.encode(), True) == outcome(text.encode(), False)


def of_points(points, **dump):
    return json.dumps({"file_name": "a01_s01_e00_v01", "skeletons": points}, **dump)


@pytest.mark.parametrize("number", NUMBERS)
def test_odd_numbers(number):
    alike(of_points(POINTS).replace(str(POINTS[1][2][1]), number))


@pytest.mark.parametrize(
    "points",
    [[], [[]], [[[]]], POINTS[:1], [*POINTS, POINTS[0][:19]], [*POINTS, [*POINTS[0], POINTS[0][0]]],
     [[[1, 2]] * 20], [[[1, 2, 3, 4]] * 20], POINTS[0], [POINTS], None, 5, {"a": POINTS}],
)  # fmt: skip
def test_other_shapes(points):
    alike(of_points(points))


ONCE = of_points(POINTS)


@pytest.mark.parametrize(
    "text",
    [
        of_points(POINTS, indent=1), of_points(POINTS, separators=(",", ":")), "\ufeff" + ONCE, f"[{ONCE}]",
        ONCE[:-1], ONCE + "x", ONCE[:-2] + "}", ONCE.replace("]]]", "]],]"), ONCE.replace("]]]", "]]]]"),
        ONCE + "\r\n ", ONCE.replace("{", '{"skeletons": 1, '), ONCE.replace("]]]", ']]], "skeletons": 1'),
        ONCE.replace("]]]", ']]], "skeleton\\u0073": 1'), ONCE.replace('"skeletons"', '"a \\"skeletons"'),
        ONCE.replace("v01", "skeletons"), ONCE.replace('"skeletons":', '"skeletons"'), f'{{"a": {ONCE}}}',
        ONCE.replace("[", "\v[", 1), ONCE.replace("[", "[" * 5000), "", "{}",
    ],
)  # fmt: skip
def test_other_texts(text):
    alike(text)
    assert outcome(text.encode("utf-16"), True) == outcome(text.encode("utf-16"), False)


@given(st.integers(0, len(ONCE) - 1), st.text('01.+-eE ,[]{}"\\\n:nul', max_size=3), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_changed_texts(at, between, left_out):
    alike(ONCE[:at] + between + ONCE[at + left_out :])


def test_the_extension_reads_what_programs_write(monkeypatch):
    """The slow way is not taken; every number is the nearest double, rounded to float32."""
    monkeypatch.setattr(nw_ucla, "chain", None)
    points = np.random.default_rng(0).normal(size=(50, 20, 3)) * 10.0 ** np.arange(-30, 30).reshape(20, 3)
    for dump in ({}, {"indent": 2}):
        clip = nw_ucla.parse_clip(of_points(points.tolist(), **dump).encode())
        np.testing.assert_array_equal(clip[..., 0].transpose(1, 2, 0), points.astype(np.float32))
