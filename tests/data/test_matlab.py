"""The reader of MATLAB 5 files, held to SciPy's, and what it refuses instead of reading."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from scipy.io import savemat

from ikem_fast.data.formats import matlab, utd_mhad
from ikem_fast.data.formats.matlab import read_variable


def saved(compress=False, **variables):
    content = io.BytesIO()
    savemat(content, variables, do_compression=compress)
    return content.getvalue()


def element(kind, data):
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def variable(kind=9, values=bytes(16), shape=(1, 2), flags=6, name=b"a"):
    return element(
        14,
        element(6, struct.pack("<II", flags, 0))
        + element(5, struct.pack(f"<{len(shape)}i", *shape))
        + element(1, name)
        + element(kind, values),
    )


def compressed(data, level=9):
    data = zlib.compress(data, level)
    return struct.pack("<II", 15, len(data)) + data  # not padded


HEADER = saved()[:128]


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_what_scipy_writes(dtype, compress):
    array = (100 * np.random.default_rng(0).random((20, 3, 7))).astype(dtype)
    content = saved(compress, before=np.arange(5.0), d_skel=array, words="after", nested={"a": 1})
    read = read_variable(content, "d_skel")
    assert read.dtype == dtype and read.shape == (20, 3, 7)
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(read_variable(content, "before"), np.arange(5.0)[None])


def test_numbers_stored_narrower_than_their_class():
    """MATLAB itself writes doubles that are small whole numbers as bytes, in a short element."""
    short = struct.pack("<HH", 2, 3) + b"\x01\x02\x03\x00"
    parts = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<2i", 1, 3)) + element(1, b"a")
    assert read_variable(HEADER + element(14, parts + short), "a").tolist() == [[1, 2, 3]]


REFUSED = {
    "empty": (b"", "expected a MATLAB 5 file"),
    "MATLAB 4": (saved()[:124] + bytes(200), "expected a MATLAB 5 file"),
    "big endian": (HEADER[:124] + b"\x01\x00MI", "little endian"),
    "no variable": (HEADER, "expected a MATLAB file with a variable 'a', found none"),
    "words": (saved(a="words"), "expected 'a' to be real numbers"),
    "complex": (saved(a=np.array([1j])), "expected 'a' to be real numbers"),
    "cells": (saved(a=np.array([1.0, "b"], object)), "expected 'a' to be real numbers"),
    "a structure": (saved(a={"b": 1}), "expected 'a' to be real numbers"),
    "cut tag": (HEADER + b"\x0e\0\0", "found the end of the file"),
    "cut element": (HEADER + struct.pack("<II", 14, 2**31), "an element of 2147483648 bytes, found 0 left"),
    "long short element": (HEADER + struct.pack("<HHI", 14, 5, 0), "an element of 5 bytes"),
    "no matrix": (HEADER + element(9, bytes(8)), "found an element of type 9"),
    "no values": (HEADER + element(14, variable()[8:-24]), "to be numbers, found type None"),
    "odd values": (HEADER + variable(kind=16), "to be numbers, found type 16"),
    "huge shape": (HEADER + variable(shape=(2**31 - 1,) * 9), "found 16 bytes of them"),
    "negative shape": (HEADER + variable(shape=(-1, -2)), "found 16 bytes of them"),
    "no shape": (HEADER + variable(shape=()), "flags and dimensions of other sizes"),
    "not compressed": (HEADER + struct.pack("<II", 15, 5) + b"words", "expected bytes compressed by zlib"),
    "cut": (
        HEADER + struct.pack("<II", 15, 60) + zlib.compress(variable(), 0)[:60],
        "the end of them missing",
    ),
    "nested compression": (HEADER + compressed(compressed(b"")), "element of type 15"),
    "nothing compressed": (HEADER + compressed(b""), "an element of type None"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    content, message = REFUSED[kind]
    with pytest.raises(ValueError, match=message):
        read_variable(content, "a")


def test_bombs_take_no_memory():
    bomb = compressed(element(14, bytes(1 << 28)))
    many = 50 * compressed(variable(values=bytes(1 << 20), shape=(1, 1 << 17), name=b"b"))
    for content in (HEADER + bomb, HEADER + many):
        tracemalloc.start()
        with pytest.raises(ValueError, match=f"at most {matlab.MAX_BYTES} bytes, found more"):
            read_variable(content, "a")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * matlab.MAX_BYTES


def test_mutations_of_a_whole_file():
    """A clip, or a ValueError: nothing else, whatever the bytes."""
    rng = np.random.default_rng(0)
    whole = [saved(compress, d_skel=rng.normal(size=(20, 3, 2)).astype("f4")) for compress in (False, True)]
    refused = 0
    for trial in range(4000):
        content = bytearray(whole[trial % 2])
        for _ in range(rng.integers(1, 4)):
            at = 124 + rng.integers(200 if rng.random() < 0.8 else len(content) - 124) % (len(content) - 124)
            match rng.integers(3):
                case 0:
                    content[at] = rng.integers(256)
                case 1:
                    content[at] ^= 1 << rng.integers(8)
                case 2:
                    del content[at : at + rng.integers(1, 9)]
        try:
            assert utd_mhad.parse_clip(bytes(content)).shape[2:] == (20, 1)
        except ValueError as error:
            assert "expected" in str(error)
            refused += 1
    assert 1000 < refused < 4000


def test_a_file_that_kills_scipy(shared):
    content = (shared / "faults" / "a1_s1_t1_skeleton.mat").read_bytes()
    with pytest.raises(ValueError, match="expected"):
        utd_mhad.parse_clip(content)
