"""The packed form: clips come back as they were packed, one at a time; broken files are named."""

import io
import struct
import zipfile

import numpy as np
import pytest

from ikem_fast.data import open_dataset, preprocess_clip
from ikem_fast.data.formats.npz import PackedClips, prepare_npz
from ikem_fast.errors import InputError


def pack(path, bodies=None, compress=True, **changes):
    rng = np.random.default_rng(0)
    lengths = np.array([4, 0, 7, 1], dtype=np.int32)
    shape = (lengths.sum(), 15, 3) + (() if bodies is None else (bodies,))
    entries = {
        "x": rng.normal(size=shape).astype(np.float32),
        "len": lengths,
        "y": np.array([0, 2, 1, 2], np.int16),
        "subject": np.array(["a", "b", "a", "c"]),
        "fps": np.array(30),
    }
    entries = {entry: array for entry, array in (entries | changes).items() if array is not None}
    (np.savez_compressed if compress else np.savez)(path, **entries)
    return entries


def prepared(tmp_path, **settings):
    """Split → numbers of the clips in it, of four clips of subjects a, b, a, c; the second has no frame."""
    lengths = np.array([4, 2, 7, 1])
    x = np.random.default_rng(0).normal(size=(14, 15, 3)).astype(np.float32)
    pack(tmp_path / "a.npz", len=lengths, x=x)
    dataset = prepare_npz(tmp_path / "_".join(settings), tmp_path / "a.npz", "sbu", **settings)
    for split in dataset.splits.values():
        for clip, name in zip(split.clips, split.names, strict=True):
            start = lengths[: int(name[-1])].sum()
            raw = x[start : start + lengths[int(name[-1])]].transpose(2, 0, 1)[..., None]
            np.testing.assert_array_equal(clip, preprocess_clip(raw, layout="sbu"))
    return {name: [int(clip[-1]) for clip in split.names] for name, split in dataset.splits.items()}


def test_training_clips_test_clips_or_both_are_chosen(tmp_path):
    assert prepared(tmp_path, train="subject=a") == {"train": [0, 2], "test": [1, 3]}
    assert prepared(tmp_path, test="subject=a,c") == {"train": [1], "test": [0, 2, 3]}
    assert prepared(tmp_path, train="subject=b", test="subject=c") == {"train": [1], "test": [3]}
    subjects = open_dataset(tmp_path / "test")["test"].subjects
    assert subjects.tolist() == ["a", "a", "c"]
    with pytest.raises(
        InputError, match="expected no clip in train='subject=a' and test='subject=a,b', found 2"
    ):
        prepared(tmp_path, train="subject=a", test="subject=a,b")
    with pytest.raises(InputError, match="found neither train nor test"):
        prepare_npz(tmp_path / "none", tmp_path / "a.npz", "sbu")
    with pytest.raises(InputError, match="test: expected values of 'subject'"):
        prepared(tmp_path, test="subject=d")


@pytest.mark.parametrize("bodies", [None, 1, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_clips(tmp_path, bodies, dtype):
    entries = pack(tmp_path / "a.npz", bodies)
    x = entries["x"].astype(dtype)
    pack(tmp_path / "a.npz", bodies, x=x)
    packed = PackedClips(tmp_path / "a.npz")
    assert (packed.num_joints, packed.num_bodies) == (15, bodies or 1)
    assert packed.labels.tolist() == [0, 2, 1, 2] and packed.lengths.tolist() == [4, 0, 7, 1]
    assert list(packed.attributes) == ["subject"], "what is not one value a clip is left alone"
    expected = [
        part.reshape(len(part), 15, 3, bodies or 1).transpose(2, 0, 1, 3) for part in np.split(x, [4, 4, 11])
    ]
    for start in range(4):
        clips = list(packed.clips(start))
        assert len(clips) == 4 - start
        for clip, part in zip(clips, expected[start:], strict=True):
            assert clip.dtype == np.float32
            np.testing.assert_array_equal(clip, part.astype(np.float32))


def test_real_files(shared):
    for name, clips, joints, bodies in (
        ("utd_mhad", 861, 20, 1),
        ("nw_ucla", 1484, 20, 1),
        ("sbu", 282, 15, 2),
    ):
        packed = PackedClips(shared / "data" / f"{name}.npz")
        assert (len(packed.labels), packed.num_joints, packed.num_bodies) == (clips, joints, bodies)
        whole = np.load(shared / "data" / f"{name}.npz")
        start = clips - 3
        x = whole["x"][-whole["len"][start:].sum() :].reshape(-1, joints, 3, bodies)
        last = np.concatenate(list(packed.clips(start)), axis=1)
        np.testing.assert_array_equal(last, x.transpose(2, 0, 1, 3))


BROKEN = {
    "no y": ({"y": None}, "expected entries x, len and y, found fps, len, subject, x"),
    "other count": ({"y": np.zeros(3, int)}, "expected 4 values in 'y', as in 'len', found 3"),
    "fractional labels": ({"y": np.array([0, 0.5, 1, 0])}, "one whole number a clip in 'y', found float64"),
    "pickled labels": ({"y": np.array([0, 1, 2, None])}, "one whole number a clip in 'y', found object"),
    "negative label": ({"y": np.array([0, -1, 0, 0])}, "expected 'y' from 0 to 4095, found -1"),
    "absurd label": ({"y": np.array([0, 2**63, 0, 0], np.uint64)}, "expected 'y' from 0 to 4095"),
    "negative length": ({"len": np.array([4, -1, 7, 1])}, "expected 'len' from 0 to"),
    "other sum": ({"len": np.array([4, 0, 7, 2])}, "expected 'x' to have 13 frames, the sum of"),
    "flat": ({"x": np.zeros((12, 45), np.float32)}, r"expected 'x' to be numbers .* shape \(12, 45\)"),
    "pickled": ({"x": np.full((12, 15, 3), None)}, "expected 'x' to be numbers .* found object"),
    "no bodies": ({"x": np.zeros((12, 15, 3, 0), np.float32)}, r"expected 'x' .* shape \(12, 15, 3, 0\)"),
    "no joints": ({"x": np.zeros((12, 0, 3), np.float32)}, r"expected 'x' .* shape \(12, 0, 3\)"),
    "escapes": ({"y": None, "\x1b[2Jy": np.zeros(4)}, r"found \\x1b\[2Jy, fps"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_description(tmp_path, kind):
    changes, message = BROKEN[kind]
    pack(tmp_path / "a.npz", **changes)
    with pytest.raises(InputError, match=message) as error:
        PackedClips(tmp_path / "a.npz")
    assert "a.npz: expected" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04" + bytes(100)])
def test_not_an_archive(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npz: expected an \.npz"):
        PackedClips(tmp_path / "a.npz")
    with pytest.raises(InputError, match="found no such file"):
        PackedClips(tmp_path / "b.npz")


def rewrite(path, entry, content):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, old in entries.items():
            archive.writestr(name, content(old) if name == entry else old)


def with_shape(shape):
    """An .npy that declares this shape over what follows its header."""

    def change(old):
        array = np.load(io.BytesIO(old))
        header = io.BytesIO()
        fields = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, fields)
        return header.getvalue() + array.tobytes()

    return change


def test_declared_sizes_are_not_believed(tmp_path):
    path = tmp_path / "a.npz"
    pack(path)
    rewrite(path, "x.npy", lambda old: old[:-1])
    clips = PackedClips(path).clips()
    assert len([next(clips) for _ in range(3)]) == 3, "whole clips before the cut are read"
    with pytest.raises(InputError, match="expected a whole 'x', found: 180 bytes expected, 179 left"):
        next(clips)

    pack(path, len=np.array([4, 0, 7, 10**5]))
    rewrite(path, "x.npy", with_shape((10**5 + 11, 15, 3)))
    with pytest.raises(InputError, match="expected a whole 'x'"):
        list(PackedClips(path).clips())

    pack(path, len=np.array([4, 0, 7, 2**26]))
    rewrite(path, "x.npy", with_shape((2**26 + 11, 15, 3)))
    with pytest.raises(InputError, match="found clip 3 of 67108864 frames"):
        list(PackedClips(path).clips())

    pack(path)
    rewrite(path, "len.npy", with_shape((10**12,)))
    with pytest.raises(InputError, match="columns of at most 268435456 bytes, found 'len' of 10"):
        PackedClips(path)


@pytest.mark.parametrize("compress", [True, False])
def test_damage_anywhere_is_named(tmp_path, compress):
    path = tmp_path / "a.npz"
    pack(path, compress=compress)
    whole = path.read_bytes()
    for position in range(0, len(whole), 97):
        for damaged in (whole[:position], whole[:position] + b"\xff" * 8 + whole[position + 8 :]):
            path.write_bytes(damaged)
            try:
                list(PackedClips(path).clips())
            except InputError as error:
                assert "a.npz: expected" in str(error)


HEADERS = {
    "not a literal": b"  x",
    "deep": b"(" * 5000,
    "a set": b"{{}: 1}",
    "unclosed": b"{'descr': '<i8",
    "no shape": b"{'descr': '<i8', 'fortran_order': False}",
    "negative shape": b"{'descr': '<i8', 'fortran_order': False, 'shape': (-1,)}",
    "shape of words": b"{'descr': '<i8', 'fortran_order': False, 'shape': (n,)}",
    "endless": b" " * 40_000,
}


@pytest.mark.parametrize("entry", ["y", "subject", "x"])
@pytest.mark.parametrize("kind", HEADERS)
def test_headers_that_are_none(tmp_path, entry, kind):
    header = HEADERS[kind]
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(10_000)
    pack(tmp_path / "a.npz")
    rewrite(tmp_path / "a.npz", f"{entry}.npy", lambda _: content)
    with pytest.raises(InputError, match=rf"a\.npz: expected .*, found: no .*NumPy array in '{entry}'"):
        PackedClips(tmp_path / "a.npz")


def test_no_array(tmp_path):
    pack(tmp_path / "a.npz")
    rewrite(tmp_path / "a.npz", "y.npy", lambda old: b"\x93NUMPX" + old[6:])
    with pytest.raises(InputError, match="found: no NumPy array in 'y'"):
        PackedClips(tmp_path / "a.npz")


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_headers_of_all_versions_and_writers(tmp_path, version):
    def change(old):
        content = io.BytesIO()
        np.lib.format.write_array(content, np.load(io.BytesIO(old)), version=version)
        return content.getvalue().replace(b"'shape': (4,)", b"'shape':(4,) ")

    pack(tmp_path / "a.npz")
    rewrite(tmp_path / "a.npz", "y.npy", change)
    assert PackedClips(tmp_path / "a.npz").labels.tolist() == [0, 2, 1, 2]


def test_columns_are_held_against_a_budget(tmp_path):
    """Of what they declare, before memory is asked for: these would take terabytes."""
    pack(tmp_path / "a.npz", subject=np.arange(4))
    rewrite(tmp_path / "a.npz", "subject.npy", with_shape((10**12,)))
    with pytest.raises(InputError, match=r"columns of at most .* found 'subject' of 1000000000000 values"):
        PackedClips(tmp_path / "a.npz")


def test_other_entries_are_left_alone(tmp_path):
    pack(tmp_path / "a.npz", table=np.zeros(4, [("a", "<f4"), ("b", "<i8")]), objects=np.array([None, 1]))
    assert list(PackedClips(tmp_path / "a.npz").attributes) == ["subject"]
