"""NTU RGB+D: both readers of `.skeleton` text, alike on whole and broken files; names, bodies, protocols."""

import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ikem_fast.data import Skeletons, read_skeleton
from ikem_fast.data import skeletons as module
from ikem_fast.data.formats import ntu
from ikem_fast.errors import InputError

needs_extension = pytest.mark.skipif(
    module._skeleton_io is None, reason="ikem_fast._skeleton_io is not built"
)
READERS = ["python", pytest.param("extension", marks=needs_extension)]


def parse(text, reader="python"):
    return Skeletons(*(module.parse_in_python if reader == "python" else module._skeleton_io.parse)(text))


def body_text(tracking_id, joints):
    lines = [f"{tracking_id} 0 1 1 1 1 0 0.02764709 -0.05745083 2", str(len(joints))]
    lines += [
        f"{x:.7g} {y:.7g} {z:.7g} 277.4 191.8 1036.2 519.2 -0.2 5.3E-02 0.9 -1e-3 2" for x, y, z in joints
    ]
    return lines


def file_text(frames):
    """frames: for each, a list of (tracking id, joints (25, 3))."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body in bodies:
            lines += body_text(*body)
    return ("\n".join(lines) + "\n").encode()


def random_joints(seed, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=(25, 3))).astype(np.float32)


BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SMALL = file_text(
    [[(72057594037931101, random_joints(0))], [], [(2**64 - 1, random_joints(1)), (7, random_joints(2))]]
)
LINES = SMALL.split(b"\n")


@pytest.mark.parametrize("reader", READERS)
def test_arrays(reader):
    skeletons = parse(SMALL, reader)
    assert skeletons.num_frames == 3
    assert skeletons.frame.tolist() == [0, 2, 2] and skeletons.frame.dtype == np.int32
    assert skeletons.tracking_id.tolist() == [72057594037931101, 2**64 - 1, 7]
    assert skeletons.joints.shape == (3, 25, 3) and skeletons.joints.dtype == np.float32
    np.testing.assert_allclose(skeletons.joints, [random_joints(seed) for seed in range(3)], rtol=1e-6)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "text",
    [
        BYTE_ORDER_MARK + SMALL,
        SMALL.replace(b"\n", b"\r\n"),
        SMALL.rstrip(),
        SMALL + b"\n \t\r\n",
        SMALL.replace(b" ", b" \t "),
    ],
)
def test_other_line_ends_and_blanks(reader, text):
    np.testing.assert_array_equal(parse(text, reader).joints, parse(SMALL, reader).joints)


@pytest.mark.parametrize("reader", READERS)
def test_no_frames(reader):
    skeletons = parse(b"0\n", reader)
    assert skeletons.num_frames == 0 and skeletons.joints.shape == (0, 25, 3)


def with_line(number, line):
    return b"\n".join([*LINES[: number - 1], line, *LINES[number:]])


JOINT = LINES[4]  # the first joint, on line 5
MALFORMED = {
    "empty": (b"", "line 1: expected a frame count from 0 to 65536, found the end of the file"),
    "binary": (bytes(range(256)), "line 1: expected a frame count"),
    "zeros": (bytes(4096), r"line 1: expected a frame count from 0 to 65536, found '\?{40}\.\.\.'"),
    "words": (b"not a skeleton\n", "line 1: expected a frame count from 0 to 65536, found 'not a skeleton'"),
    "negative frames": (with_line(1, b"-1"), "line 1: expected a frame count"),
    "absurd frames": (with_line(1, b"999999999999999999999"), "line 1: expected a frame count"),
    "fractional frames": (with_line(1, b"3.0"), "line 1: expected a frame count"),
    "two frame counts": (with_line(1, b"3 3"), "line 1: expected a frame count"),
    "more frames declared": (with_line(1, b"4"), "line 86: expected a body count .*, found the end of"),
    "fewer frames declared": (with_line(1, b"2"), "line 31: expected the end of the file, found '2'"),
    "negative bodies": (with_line(2, b"-1"), "line 2: expected a body count from 0 to 6, found '-1'"),
    "absurd bodies": (with_line(2, b"1000000"), "line 2: expected a body count"),
    "more bodies declared": (with_line(2, b"2"), "line 30: expected 10 numbers of a body, found '0'"),
    "no tracking id": (with_line(3, b"x 0 1 1 1 1 0 0.02 0.05 2"), "line 3: expected 10 numbers"),
    "negative tracking id": (with_line(3, b"-1 0 1 1 1 1 0 0.02 0.05 2"), "line 3: expected 10 numbers"),
    "huge tracking id": (with_line(3, b"18446744073709551616 0 1 1 1 1 0 0 0 2"), "line 3: expected 10"),
    "short body": (with_line(3, b"1 0 1 1 1 1 0 0.02 0.05"), "line 3: expected 10 numbers of a body"),
    "other joint count": (with_line(4, b"20"), "line 4: expected the joint count 25, found '20'"),
    "huge joint count": (with_line(4, b"250000000"), "line 4: expected the joint count 25"),
    "letters": (with_line(5, JOINT.replace(b"1", b"l")), "line 5: expected 12 finite numbers of a joint"),
    "letters in other columns": (with_line(5, JOINT + b"x"), "line 5: expected 12 finite numbers"),
    "nan": (with_line(5, b"nan" + JOINT[JOINT.index(b" ") :]), "line 5: expected 12 finite numbers"),
    "infinity": (with_line(5, b"-inf" + JOINT[JOINT.index(b" ") :]), "line 5: expected 12 finite numbers"),
    "beyond float32": (with_line(5, b"1e39" + JOINT[JOINT.index(b" ") :]), "line 5: expected 12 finite"),
    "beyond float64": (with_line(5, b"1e999" + JOINT[JOINT.index(b" ") :]), "line 5: expected 12 finite"),
    "nan in other columns": (
        with_line(5, JOINT[:-1] + b"nan"), r"finite numbers of a joint, found 'nan' as item 12 of '.*\.\.\.'"
    ),
    "nan in a body": (with_line(3, b"7 0 nan 1 1 1 0 0 0 2"), "line 3: .* 'nan' as item 3 of '7 0 nan 1"),
    "two byte order marks": (2 * BYTE_ORDER_MARK + SMALL, r"line 1: .*, found '\?\?\?3'"),
    "comma for a point": (with_line(5, JOINT.replace(b".", b",")), "line 5: expected 12 finite numbers"),
    "a number too few": (with_line(5, JOINT[: JOINT.rindex(b" ")]), "line 5: expected 12 finite numbers"),
    "a number too many": (with_line(5, JOINT + b" 1"), "line 5: expected 12 finite numbers"),
    "no line": (with_line(5, b""), "line 5: expected 12 finite numbers of a joint, found ''"),
    "endless number": (with_line(5, b"1" * 10**6), r"line 5: expected 12 .*, found '1{40}\.\.\.'"),
    "a zero byte": (with_line(5, b"\0" + JOINT), r"line 5: expected 12 finite numbers of a joint, found '\?"),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed(reader, kind):
    text, message = MALFORMED[kind]
    with pytest.raises(ValueError, match=message):
        parse(text, reader)


@pytest.mark.parametrize("reader", READERS)
@given(position=st.integers(0, len(SMALL.rstrip()) - 1))
@settings(max_examples=60, deadline=None)
@example(position=len(SMALL.rstrip()) - 1)
def test_cut_anywhere(reader, position):
    with pytest.raises(ValueError, match=r"line \d+: expected .*, found"):
        parse(SMALL[:position], reader)


def outcome(text, reader):
    try:
        skeletons = parse(text, reader)
    except ValueError as error:
        return str(error)
    return tuple(array.tobytes() for array in (skeletons.frame, skeletons.tracking_id, skeletons.joints))


NUMBERS = [
    b"0", b"-0", b"-0.0", b"+1", b"1.", b".5", b"-.5", b".", b"-", b"1e5", b"1e", b"1E+5", b"1e-", b"1e-400",
    b"1e400", b"1.4E-45", b"3.4028235e38", b"3.4028236e38", b"0x10", b"1_0", b"1" * 32, b"1" * 33, b"0" * 33,
    b"inf", b"NaN", b"1.#IND", b"025", b"-25", "１".encode(), b"25\r", b"\r25", b"\v25", b"2\f5", b"1,5",
]  # fmt: skip


@needs_extension
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_readers_agree_on_broken_text(data):
    text = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        match data.draw(st.sampled_from(["token", "bytes", "cut", "copy"])):
            case "token":
                stop = min(
                    (text.find(blank, start) for blank in b" \n" if blank in text[start:]), default=start
                )
                start = max(text.rfind(b" ", 0, start), text.rfind(b"\n", 0, start)) + 1
                text[start:stop] = data.draw(st.sampled_from(NUMBERS))
            case "bytes":
                text[start : start + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=4))
            case "cut":
                del text[start : start + data.draw(st.integers(1, 200))]
            case "copy":
                text[start:start] = text[start : start + data.draw(st.integers(1, 200))]
    text = bytes(text)
    assert outcome(text, "extension") == outcome(text, "python")


@needs_extension
@pytest.mark.parametrize("line", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("token", NUMBERS)
def test_readers_agree_on_odd_numbers(line, token):
    _, _, rest = LINES[line - 1].partition(b" ")
    text = with_line(line, token + b" " + rest if rest else token)
    assert outcome(text, "extension") == outcome(text, "python")


@needs_extension
def test_readers_agree_on_what_fuzzing_found():
    """Inputs that together reach every part of the parser, most of them broken: tools/fuzz_skeleton_io."""
    with zipfile.ZipFile(Path(__file__).with_name("skeleton_corpus.zip")) as corpus:
        texts = [corpus.read(name) for name in corpus.namelist()]
    assert len(texts) > 100
    for text in texts:
        assert outcome(text, "extension") == outcome(text, "python"), text


def test_real_files(shared):
    paths = sorted((shared / "data" / "ntu_skeletons").glob("*.skeleton"))
    assert len(paths) == 37
    bodiless = [path.stem for path in paths if not len(read_skeleton(path).frame)]
    assert bodiless == ["S006C002P023R001A023", "S008C003P007R001A023"]


@needs_extension
def test_readers_agree_on_real_files(shared):
    for path in sorted((shared / "data" / "ntu_skeletons").glob("*.skeleton"))[::4]:
        assert outcome(path.read_bytes(), "extension") == outcome(path.read_bytes(), "python")


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "S001C001P001R001A001.skeleton"
    path.write_bytes(SMALL[:100])
    with pytest.raises(InputError, match=r"A001\.skeleton: line 5: expected 12 finite numbers"):
        read_skeleton(path)
    with pytest.raises(InputError, match=r"A002\.skeleton: cannot be read: .*No such file"):
        read_skeleton(tmp_path / "S001C001P001R001A002.skeleton")
    with path.open("wb") as file:
        file.truncate(1 << 30)  # a gigabyte of zeros that takes no space
    with pytest.raises(InputError, match="expected at most 67108864 bytes, found 1073741824"):
        read_skeleton(str(path))


def track(tracking_id, frames, joints):
    return {t: (tracking_id, joints + 0.1 * np.sin(t)) for t in frames}


def skeletons_of(num_frames, *tracks):
    return parse(file_text([[body[t] for body in tracks if t in body] for t in range(num_frames)]))


def test_bodies():
    bodies = skeletons_of(
        6, track(9, range(2, 5), random_joints(0)), track(4, range(6), random_joints(1))
    ).bodies()
    assert list(bodies) == [4, 9]
    frames, joints = bodies[9]
    assert frames.tolist() == [2, 3, 4] and joints.shape == (3, 25, 3)


def test_ten_thousand_bodies():
    """Each frame its own people: what a hostile file may say, and what took gigabytes."""
    records = 10_000
    crowd = Skeletons(
        num_frames=records // 2,
        frame=np.arange(records, dtype=np.int32) // 2,
        tracking_id=np.arange(records, dtype=np.uint64)[::-1],
        joints=np.broadcast_to(np.arange(1, records + 1, dtype=np.float32)[:, None, None], (records, 25, 3)),
    )
    tracemalloc.start()
    assert list(crowd.bodies())[:2] == [records - 1, records - 2]
    clip = crowd.clip()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (clip[0, :, 0] == np.arange(1, records + 1).reshape(-1, 2)).all()
    assert peak < 30e6, "as much again as the records and the clip take, at most a few times"


def test_bodies_by_motion():
    """The one that moves most comes first, whatever the file's order; a third body is left out."""
    still = {t: (1, random_joints(0)) for t in range(8)}
    moves = {t: (2, random_joints(1) + t) for t in range(8)}
    sways = {t: (3, random_joints(2) + 0.1 * t) for t in range(8)}
    clip = skeletons_of(8, still, sways, moves).clip()
    assert clip.shape == (3, 8, 25, 2) and clip.dtype == np.float32
    for t in range(8):
        np.testing.assert_allclose(clip[:, t, :, 0].T, moves[t][1], rtol=1e-5)
        np.testing.assert_allclose(clip[:, t, :, 1].T, sways[t][1], rtol=1e-5)


def test_a_person_lost_and_found_stays_one_body():
    joints = random_joints(0)
    person = {**track(1, range(4), joints), **track(2, range(6, 10), joints)}
    clip = skeletons_of(10, person).clip()
    assert clip[..., 0].any(axis=(0, 2)).tolist() == [t in person for t in range(10)]
    assert not clip[..., 1].any()


def test_a_body_within_the_gap_of_another_is_the_second():
    clip = skeletons_of(
        9, track(1, [0, 1, 7, 8], random_joints(0, 3)), track(2, [3, 4], random_joints(1))
    ).clip()
    assert np.flatnonzero(clip[..., 0].any(axis=(0, 2))).tolist() == [0, 1, 7, 8]
    assert np.flatnonzero(clip[..., 1].any(axis=(0, 2))).tolist() == [3, 4]


def test_bodies_in_file_order():
    first, second, third = (track(i, range(3), random_joints(i)) for i in (5, 3, 4))
    del first[1]
    clip = skeletons_of(3, first, second, third).clip("file-order")
    expected = {0: (first, second), 1: (second, third), 2: (first, second)}
    for t, bodies in expected.items():
        for m, body in enumerate(bodies):
            np.testing.assert_allclose(clip[:, t, :, m].T, body[t][1], rtol=1e-5)
    with pytest.raises(ValueError, match="bodies: expected 'motion' or 'file-order'"):
        skeletons_of(3, first).clip("random")


def test_names():
    assert ntu.parse_name("S001C002P003R002A013") == (1, 2, 3, 2, 13)
    for name in (
        "",
        "S001C002P003R002A13",
        "xS001C002P003R002A013",
        "S001C002P003R002A013.skeleton",
        "S00١C002P003",
        "S001C001P001R001A000",
        "S001C001P001R001A121",
        "S033C001P001R001A001",
        "S001C004P001R001A001",
        "S001C001P107R001A001",
        "S001C001P001R003A001",
    ):
        assert ntu.parse_name(name) is None


def test_skip_lists(shared, tmp_path):
    assert len(ntu.read_skip_list(shared / "data" / "ntu60_missing_skeletons.txt")) == 302
    assert len(ntu.read_skip_list(shared / "data" / "ntu120_missing_skeletons.txt")) == 535
    path = tmp_path / "list.txt"
    path.write_text("Missing samples:\r\nS001C002P005R002A008\r\n\r\nS001C002P005R002A009.skeleton\r\n")
    assert ntu.read_skip_list(path) == {"S001C002P005R002A008", "S001C002P005R002A009"}
    path.write_bytes(b"\xef\xbb\xbfS001C002P005R002A008")
    assert ntu.read_skip_list(path) == {"S001C002P005R002A008"}
    for content in (b"", b"names\n", b"\xff\xff"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"list\.txt: expected"):
            ntu.read_skip_list(path)


def test_protocols():
    """As the protocols define them: 20 of 40 and 53 of 106 subjects, 2 of 3 cameras, 16 of 32 setups."""
    everything = {"setup": range(1, 33), "camera": range(1, 4), "subject": range(1, 107)}
    train = {name: sorted(rules.train & set(everything[rules.part])) for name, rules in ntu.PROTOCOLS.items()}
    assert {name: len(values) for name, values in train.items()} == {
        "ntu60-xsub": 20, "ntu60-xview": 2, "ntu120-xsub": 53, "ntu120-xset": 16,
    }  # fmt: skip
    assert all(len(values) == len(ntu.PROTOCOLS[name].train) for name, values in train.items())
    assert set(train["ntu60-xsub"]) <= set(train["ntu120-xsub"])
    assert sum(subject > 40 for subject in train["ntu120-xsub"]) == 33
    name = ntu.parse_name("S002C001P003R001A061")
    splits = {protocol: rules.split(name) for protocol, rules in ntu.PROTOCOLS.items()}
    assert splits == {
        "ntu60-xsub": "test",
        "ntu60-xview": "test",
        "ntu120-xsub": "test",
        "ntu120-xset": "train",
    }
    assert [rules.has(name) for rules in ntu.PROTOCOLS.values()] == [False, False, True, True]


def test_actions():
    assert len(ntu.ACTIONS) == len(set(ntu.ACTIONS)) == 120
    assert (
        ntu.ACTIONS[22] == "wave hand"
        and ntu.ACTIONS[57] == "shake hands"
        and ntu.ACTIONS[111] == "high-five"
    )
