"""Numbers in JSON: what C++ reads and what `json` does are alike, to the bit or to the word of the error."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast.data.formats import coco, json_numbers, mediapipe, nw_ucla, openpose, smarthome
from ikem_fast.data.formats.json_numbers import load_json

pytestmark = pytest.mark.skipif(nw_ucla._skeleton_io is None, reason="ikem_fast._skeleton_io is not built")
POINTS = np.random.default_rng(0).normal(size=(3, 20, 3)).tolist()
NUMBERS = (
    "1", "-0", "-0.0", "+1", "01", "-01", "1.", ".5", "-.5", "1.e5", "1e5", "1E-05", "1e+5", "1e", "1e400",
    "-1e400", "1e-400", "NaN", "nan", "inf", "Infinity", "-Infinity", "null", "true", '"1"', "[1]", "{}", "",
    "--1", "-", "9007199254740993", "1" * 400, "0x1", "1_0", "1 2",
)  # fmt: skip


def outcome(content, built, read=nw_ucla.parse_clip):
    """What a reader answers: the bits, or the words of its error."""
    extension = nw_ucla._skeleton_io
    nw_ucla._skeleton_io = json_numbers._skeleton_io = extension if built else None
    try:
        clip = read(content)
        assert clip.dtype == np.float32
        return clip.shape, np.where(np.isnan(clip), np.nan, clip).tobytes()
    except ValueError as error:
        return str(error)
    finally:
        nw_ucla._skeleton_io = json_numbers._skeleton_io = extension


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


def as_lists(value):
    """With lists in place of arrays; whole numbers among others may be floats."""
    if isinstance(value, np.ndarray):
        assert value.dtype == np.float64 and len(value) >= json_numbers.LEAST
        return value.tolist()
    if isinstance(value, list):
        numbers = all(type(one) in (int, float) and abs(one) < 1e300 for one in value)
        return [float(one) if numbers else as_lists(one) for one in value]
    return {key: as_lists(one) for key, one in value.items()} if isinstance(value, dict) else value


def parsed(read, text):
    try:
        return repr(as_lists(read(text)))
    except (ValueError, RecursionError) as error:
        return str(error)


LONG = "[" + ", ".join(map(str, np.linspace(-1, 1, 9))) + "]"
TEXTS = (
    LONG, f"[{LONG}]", f'{{"a": {LONG}, "b": [{LONG}, [1.5], "x"]}}', f"-{LONG}", f"1{LONG}",
    f"{{{LONG}: 1}}",
    f'["[1,2,3,4,5,6,7,8.5]", {LONG}]', f'["\\"", {LONG}]', f'["\\\\", {LONG}]', f'"{LONG}', f"[NaN, {LONG}]",
    f"[-Infinity, {LONG}]", f"[{LONG}", LONG.replace("]", ",]"), LONG.replace("]", ", null]"), "[1.5, 2.5]",
    LONG.replace("-1.0", "-01.0"), LONG.replace("-1.0", "1e999"), f"[{LONG}]" * 2, "[" * 99999,
    f"{LONG}\n\t ",
    f'{{"N": {LONG}, "I": {LONG}}}', f"N{LONG}", "", '"', '"\\', f"\ufeff{LONG}",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_json_with_arrays_is_json(text):
    for content in (text.encode(), text.encode("utf-16-le"), text.encode("utf-16")):
        assert parsed(load_json, content) == parsed(json.loads, content)


@given(st.sampled_from(TEXTS), st.integers(0, 200), st.text('01.+-eE ,[]{}"\\\n:nul', max_size=3))
@settings(max_examples=300, deadline=None)
def test_changed_json_with_arrays(text, at, between):
    changed = (text[:at] + between + text[at + 1 :])[:3000].encode()
    assert parsed(load_json, changed) == parsed(json.loads, changed)


def test_arrays_are_numpy_s_where_they_are_long():
    found = load_json(f'{{"a": {LONG}, "b": [1.5, 2.5]}}'.encode())
    assert isinstance(found["a"], np.ndarray) and found["b"] == [1.5, 2.5]
    assert isinstance(load_json(LONG.encode()), list), "as a whole it is a list, as `json` has it"


def marks(count=8, **others):
    return [{"x": 0.5 + i, "y": -1, **others} for i in range(count)]


RECORDS = (
    marks(), marks(7), [], [{}] * 8, marks(9, name='a "mark" \\', z=None, seen=True, other=-0.5),
    marks(8, inner=[1]), marks(8, inner={"x": 1}), marks(8, x="1"), marks(8, x=None), marks(8, x=10**400),
    [{"y": 2, "x": 1}] * 8, [{"x": 1}] * 8, [*marks(), {"x": 1}], [*marks(), 5], [marks(), marks(3)],
    {"x": marks(), "y": [marks()]}, marks(8, é="é"), [{"X": 1, "x": 2, "y": 3}] * 8,
)  # fmt: skip
ODD_RECORDS = (
    '{"x": 1, "x": 2, "y": 3}', '{"\\u0078": 1, "x": 2, "y": 3}', '{"x": 1, "y": 3, }', '{"x": 01, "y": 3}',
    '{"x": 1 "y": 3}', '{"x": 1, "y": NaN}', "{x: 1}", '{"x": 1, "y": 2, "z": tru}', '{"x": 1, "y": 2',
    '{"x": 1, "y": 2, "z": "\n"}', '{"x": 1, "y": 2, "z": "\\q"}', '{"x": 1, "y": 2, "z": "é"}',
    '{"x": 1, "y": 2}}', '{"x" : 1e5 ,\r\n"y"\t: -0.0 }', '{"x": 1, "y": 2, "z": nullx}',
    '{"x": 1, "y": 2, "z": "a}', '{"x": 1, "y": 2, "z"}', '{"x": 1, "y": 2, "\n": 3}',
)  # fmt: skip


def as_records(value):
    """With lists of objects in place of arrays, of what is theirs by x and y."""
    if isinstance(value, np.ndarray):
        assert value.dtype == np.float64 and value.shape[1:] == (2,) and len(value) >= json_numbers.LEAST
        return value.tolist()
    if isinstance(value, list):
        if value and all(isinstance(one, dict) and {"x", "y"} <= set(one) for one in value):
            return [[as_records(one[key]) for key in "xy"] for one in value]
        return [as_records(one) for one in value]
    if isinstance(value, dict):
        return {key: as_records(one) for key, one in value.items()}
    return float(value) if type(value) is int and abs(value) < 1e300 else value


def parsed_records(read, text):
    try:
        return repr(as_records(read(text)))
    except (ValueError, RecursionError) as error:
        return str(error)


@pytest.mark.parametrize("text", [
    *(json.dumps({"marks": one}, **how) for one in RECORDS for how in ({}, {"indent": 1})),
    *(f'{{"marks": [{", ".join([one] * 9)}]}}' for one in ODD_RECORDS), json.dumps(marks()),
])  # fmt: skip
def test_json_with_records_is_json(text):
    for content in (text.encode(), text.encode("utf-16")):
        found = parsed_records(lambda text: load_json(text, "xy"), content)
        assert found == parsed_records(json.loads, content)


def test_records_are_numpy_s_in_the_order_of_the_keys():
    for others in ({}, {"name": "nose", "z": None, "seen": False}):
        found = load_json(json.dumps({"a": [marks(9, **others)], "b": marks(7)}).encode(), "yx")
        np.testing.assert_array_equal(found["a"][0], [[-1, 0.5 + i] for i in range(9)])
        assert found["b"] == marks(7)


POSE = np.abs(np.random.default_rng(0).normal(size=(4, 51))).round(3).tolist()
FORMS = {
    "openpose": (
        lambda content: openpose.parse_clip(content, openpose.Kind(17, False), 1),
        b"\0".join(json.dumps({"people": [{"pose_keypoints_2d": one}]}).encode() for one in POSE),
    ),
    "smarthome": (
        smarthome.parse_clip,
        json.dumps({"frames": [[{"pose3d": one[:39], "score": 1}] for one in POSE]}).encode(),
    ),
    "coco": (
        lambda content: coco.parse_clip(content, 1),
        json.dumps([{"image_id": f"{i}.jpg", "keypoints": one} for i, one in enumerate(POSE)]).encode(),
    ),
    "mediapipe": (
        lambda content: mediapipe.parse_clip(content, 1),
        json.dumps([[dict(zip("xyz", map(float, "123"), strict=True))] * 33] * 2).encode(),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@given(
    st.integers(0, 2000),
    st.text('01.+-eE ,[]{}"\\:nul', max_size=3) | st.sampled_from([LONG, "[]", "null", '"5"', "NaN", "1e99"]),
    st.sampled_from([0, 1, 2, 100, 400]),
)
@settings(max_examples=100, deadline=None)
def test_readers_of_json_answer_alike(form, at, between, left_out):
    """And with clips or a ValueError, whatever stands in an array's place."""
    read, whole = FORMS[form]
    changed = whole[:at] + between.encode() + whole[at + left_out :]
    found = outcome(changed, True, read)
    other = outcome(changed, False, read)
    assert found == other or (isinstance(found, str) and isinstance(other, str))
    assert not isinstance(outcome(whole, True, read), str)
