"""Pickles give arrays and plain containers, whoever wrote them; anything else is refused by name."""

import codecs
import collections
import os
import pickle
import struct

import numpy as np
import pytest

from ikem_fast.data.formats import pickles
from ikem_fast.data.formats.pickles import latin_of_utf8, load_pickle
from ikem_fast.data.formats.stored import StoredArray
from ikem_fast.data.native import _skeleton_io
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError

RNG = np.random.default_rng(0)
ARRAYS = {
    "wide": RNG.normal(size=(3, 40, 25)),
    "half": RNG.normal(size=(2, 5, 17, 2)).astype(np.float16),
    "big endian": np.arange(7, dtype=">i2"),
    "fortran": np.asfortranarray(RNG.normal(size=(200, 5))),
    "texts": np.array(["a", "bcd"]),
    "empty": np.zeros((0, 3)),
    "bytes above 127": np.arange(256, dtype=np.uint8).repeat(10),
    "objects": np.array(["a", "bb"], dtype=object),
}
PLAIN = {
    "numbers": [0, -5, 300, 2**40, -(2**70), 2.5, True, None],
    "texts": ("é" * 5, "", b"\x00\xff", bytearray(b"ab")),
    "set": {1, 2},
    "frozen": frozenset("ab"),
    "ordered": collections.OrderedDict(b=1, a=[2]),
    "numpy": [np.float32(3.5), np.int64(7), np.str_("x"), np.bool_(True)],
    "many": list(range(2000)),
}


def loaded(path, content, **options):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, **options))
    return load_pickle(SourceFile(path))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_datasets_are_made_of(tmp_path, protocol):
    found = loaded(tmp_path / "a.pkl", [ARRAYS, PLAIN, PLAIN], protocol=protocol)
    for name, array in ARRAYS.items():
        stored = found[0][name]
        assert isinstance(stored, StoredArray) and stored.shape == array.shape
        if array.dtype == object:
            assert stored.objects == array.tolist()
            continue
        np.testing.assert_array_equal(stored.load(), array)
        assert stored.dtype == array.dtype
    assert found[1] == PLAIN and found[1] is found[2]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_texts_of_any_length(tmp_path, protocol):
    """Wherever a block of the file ends within them; and cut short anywhere they are refused."""
    texts = [str(number) + character * (number % 150) for number in range(600) for character in "aé"]
    assert loaded(tmp_path / "a.pkl", texts, protocol=protocol) == texts
    content = pickle.dumps(texts[:9], protocol=protocol)
    for size in range(len(content)):
        with pytest.raises(InputError, match=r"a\.pkl: expected a pickle of arrays and plain containers"):
            loaded(tmp_path / "a.pkl", content[:size])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (0, 2, 1)])
def test_arrays_whose_axes_were_exchanged(tmp_path, protocol, axes):
    """Which NumPy writes by protocol 5 in the order of memory, as keypoints mostly are."""
    array = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32).transpose(axes)
    (found,) = loaded(tmp_path / "a.pkl", [array], protocol=protocol)
    np.testing.assert_array_equal(found.load(), array)
    assert found.shape == array.shape


@pytest.mark.parametrize("axes", [(0, 0), (0, 1, 2), (0, 2), (0, "1"), [1, 0], 1])
def test_axes_that_are_none_are_refused(tmp_path, axes):
    array = np.arange(6.0).reshape(2, 3)

    class Exchanged:
        def __reduce__(self):
            buffer = pickle.PickleBuffer(array).raw().tobytes()
            return np._core.numeric._frombuffer, (buffer, array.dtype, array.shape, "K", axes)

    with pytest.raises(InputError, match="expected a pickle of arrays"):
        loaded(tmp_path / "a.pkl", Exchanged(), protocol=5)


@pytest.mark.parametrize(("module", "protocol"), [("numpy.core", 2), ("numpy._core", 3), ("numpy.core", 5)])
def test_arrays_of_either_numpy(tmp_path, module, protocol):
    content = pickle.dumps([np.arange(6.0).reshape(2, 3), np.float64(2)], protocol=protocol)
    here = b"numpy._core" if b"numpy._core" in content else b"numpy.core"
    if protocol >= 4:  # lengths stand before the names
        for name in (b".multiarray", b".numeric"):
            before, after = here + name, module.encode() + name
            content = content.replace(bytes([len(before)]) + before, bytes([len(after)]) + after)
        content = content[:3] + struct.pack("<Q", len(content) - 11) + content[11:]
    else:
        content = content.replace(here, module.encode())
    assert module.encode() in content
    array, number = loaded(tmp_path / "a.pkl", content)
    np.testing.assert_array_equal(array.load(), np.arange(6.0).reshape(2, 3))
    assert number == 2


def test_what_python_2_wrote(tmp_path):
    """Its bytes are texts of Latin-1, an array's values too."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR".replace(
        b"t R", b"tR"
    )
    dtype = b"cnumpy\ndtype\n(U\x02i2K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    state = b"(K\x01K\x02\x85" + dtype + b"\x89U\x04\x01\x00\xff\xfftb"
    content = b"\x80\x02(U\x03abcT\x02\x00\x00\x00\xe9d" + array + state + b"t."
    text, other, found = loaded(tmp_path / "a.pkl", content)
    assert (text, other, found.load().tolist()) == ("abc", "éd", [1, -1])


@pytest.mark.parametrize("built", [True, False])
def test_bytes_of_protocol_2_are_what_python_decodes(monkeypatch, built):
    """Every text of one byte and of two, and many of those that matter; what is none is refused."""
    if built and pickles._skeleton_io is None:
        pytest.skip("ikem_fast._skeleton_io is not built")
    if not built:
        monkeypatch.setattr(pickles, "_skeleton_io", None)
    rng = np.random.default_rng(0)
    edges = np.array([0, 0x7F, 0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xE2, 0xF0, 0xFF], np.uint8)
    texts = [bytes([a]) for a in range(256)] + [bytes([a, b]) for a in range(256) for b in range(256)]
    texts += [rng.choice(edges, rng.integers(0, 7)).tobytes() for _ in range(5000)]
    texts += [rng.integers(0, 256, size, np.uint8).tobytes().decode("latin-1").encode() for size in range(99)]
    understood = 0
    for text in texts:
        try:
            expected = text.decode("utf-8").encode("latin-1")
        except ValueError:
            with pytest.raises(ValueError):
                latin_of_utf8(np.frombuffer(bytearray(text), np.uint8))
            continue
        found = latin_of_utf8(np.frombuffer(bytearray(text), np.uint8))
        assert found.tobytes() == expected and found.dtype == np.uint8 and found.flags.writeable, text
        understood += 1
    assert 128 + 128**2 + 128 < understood < len(texts) // 2


@pytest.mark.parametrize("protocol", [2, 4])
def test_more_bytes_than_an_array_can_have_are_not_read(tmp_path, protocol):
    """Of a text two for each of its bytes, otherwise one: found ahead of asking for memory."""
    array = np.full(3000, 0x8080, np.uint16)
    content = pickle.dumps(array, protocol=protocol)
    small = content.replace(struct.pack("<H", 3000), struct.pack("<H", 2900))
    assert small != content
    stored = loaded(tmp_path / "a.pkl", small)
    with pytest.raises(InputError, match=rf"found: {12000 if protocol == 2 else 6000} bytes for shape"):
        stored.load()
    np.testing.assert_array_equal(loaded(tmp_path / "b.pkl", content).load(), array)


class Calls:
    """Pickled as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Plain:
    """An object of a class of one's own."""


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda there: Calls(os.mkdir, there), "posix.mkdir|nt.mkdir"),
        (lambda there: Calls(eval, f"__import__('os').mkdir({there!r})"), "eval"),
        (lambda there: Plain(), "test_pickles.Plain"),
        (lambda there: np.load, "numpy.load"),
        (lambda there: collections.Counter("a"), "collections.Counter"),
        (lambda there: np.ma.array([1]), "_mareconstruct"),
    ],
)
def test_code_is_refused_by_name_and_not_run(tmp_path, protocol, make, named):
    there = tmp_path / "made by a pickle"
    with pytest.raises(InputError, match=f"a.pkl: expected .* calls .*({named}); nothing of it was run"):
        loaded(tmp_path / "a.pkl", {"x": [np.ones(3), make(str(there))]}, protocol=protocol)
    assert not there.exists()


def test_code_behind_known_names_is_refused(tmp_path):
    """NumPy's own functions take arguments; those that make anything but plain arrays are refused."""
    for arguments in ((Calls, (0,), b"b"), (np.matrix, (0,), b"b")):
        with pytest.raises(InputError, match="nothing of it was run"):
            loaded(tmp_path / "a.pkl", Calls(np._core.multiarray._reconstruct, *arguments))
    for content in (
        Calls(codecs.encode, "abc", "rot13"),
        Calls(np.dtype, "f4,i4"),
        Calls(np.ndarray, (10**9,)),
    ):
        with pytest.raises(InputError, match=r"a\.pkl: expected a pickle of arrays"):
            loaded(tmp_path / "a.pkl", content)
    with pytest.raises(InputError, match="expected an array of numbers or texts, found type 'V4'"):
        loaded(tmp_path / "a.pkl", np.zeros(2, np.dtype([("a", "f4")])))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "bytes declared, 0 left"),
        (b"\x93NUMPY\x01\x00", "a NumPy array, of which the name ends in .npy"),
        (b"(lp0\nI1\na.", "no pickle of protocol 2 to 5"),
        (b"PK\x03\x04", "no pickle of protocol 2 to 5"),
        (b"\x80\x04", "the end of the file"),
        (b"\x80\x04]", "the end of the file"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b".", f"{1 << 60} bytes declared, 1 left"),
        (b"\x80\x04\x96" + struct.pack("<Q", 1 << 40) + b".", f"{1 << 40} bytes declared"),
        (b"\x80\x04B" + struct.pack("<I", 1 << 31) + b".", f"{1 << 31} bytes declared"),
        (b"\x80\x02X" + struct.pack("<I", 900) + b".", "900 bytes declared, 1 left"),
        (b"\x80\x02\x8b" + struct.pack("<I", 1 << 30) + b".", "the instruction LONG4"),
        (b"\x80\x02\x8a\xff" + b"\x01" * 255 + b".", "an integer of 255 bytes"),
        (b"\x80\x02Nr\xff\xff\xff\xff.", "number 4294967295 of a memo"),
        (b"\x80\x02N2.", "the instruction DUP"),
        (b"\x80\x02K\x00Q.", "the instruction BINPERSID"),
        (b"\x80\x02cbuiltins\nset\n}b.", "a state for set"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "a state for numpy.ndarray"),
        (b"\x80\x04B\x00\x08\x00\x00" + bytes(2048) + b"}X\x02\x00\x00\x00atK\x01sb.", "a state for bytes"),
        (b"\x80\x02P0\n.", "the instruction PERSID"),
        (b"\x80\x02(ios\nsystem\n.", "the instruction INST"),
        (b"\x80\x02)}\x92.", "the instruction NEWOBJ_EX"),
        (b"\x80\x02\x82\x01.", "the instruction EXT1"),
        (b"\x80\x05\x97.", "the instruction NEXT_BUFFER"),
        (b"\x80\x02t.", "could not find MARK"),
        (b"\x80\x02(.", "MARK"),
        (b"\x80\x02NNa.", "no attribute '(append|extend)'"),
        (b"\x80\x02N}b.", "no attribute '__dict__'"),
        (b"\x80\x02}]Ns.", "unhashable"),
        (b"\x80\x02NNR.", "argument list must be a tuple"),
        (b"\x80\x02}K\x01" + 300_000 * b"\x85" + b"K\x02s.", "containers more than 32 deep"),
        (b"\x80\x02K\x01" + 40 * b"\x85" + b".", "containers more than 32 deep"),
        (b"\x80\x02]q\x00h\x00a.", "containers more than 32 deep"),
        (b"\x80\x02K\x01" + (1 << 23) * b"\x85" + b"\x85.", "more than 8388608 tuples"),
    ],
)
def test_what_is_broken_is_told_and_takes_no_memory(tmp_path, content, said):
    with pytest.raises(InputError, match=rf"a\.pkl: expected .*({said})"):
        loaded(tmp_path / "a.pkl", content)


def test_declared_shapes_are_held_against_what_is_there(tmp_path):
    content = pickle.dumps(np.zeros(3000), protocol=4)
    huge = content.replace(struct.pack("<H", 3000), struct.pack("<H", 60000))
    assert huge != content
    array = loaded(tmp_path / "a.pkl", huge)
    with pytest.raises(InputError, match=r"a\.pkl: expected a whole array, found: 24000 bytes for"):
        array.load()
    with pytest.raises(InputError, match="expected a whole array"):
        array = loaded(tmp_path / "a.pkl", content)
        (tmp_path / "a.pkl").write_bytes(content[:5000])
        array.load()


def test_numbers_of_the_memo_are_bounded(tmp_path):
    """It is a list: a large number alone asks for memory."""
    small = b"\x80\x02]r" + struct.pack("<I", 1 << 16) + b"."
    with pytest.raises(InputError, match="number 65536 of a memo"):
        loaded(tmp_path / "a.pkl", small)
    assert loaded(tmp_path / "b.pkl", b"\x80\x02]r\xff\xff\0\0.") == []
    many = [str(number) for number in range(70_000)]
    assert loaded(tmp_path / "c.pkl", many, protocol=2) == many


@pytest.mark.skipif(_skeleton_io is None, reason="the compiled readers were not built")
@pytest.mark.parametrize("memo", [pickles._MEMO_OF_SMALL_FILE, pickles._MEMO_OF_LARGE_FILE])
def test_compiled_and_in_python_the_same_instructions_are_plain(memo, monkeypatch):
    rng = np.random.default_rng(0)
    content = ([f"S{i:03d}" * (i % 30) for i in range(300)], list(range(0, 90000, 301)), (1.5, None, True))
    blocks = [pickle.dumps(content, protocol=protocol)[2:] for protocol in (2, 3, 4, 5)]
    blocks += [bytes([code]) + rng.bytes(90) for code in range(256) for _ in range(20)]
    blocks += [b"r" + number.to_bytes(4, "little") for number in (0, 65535, 65536, (1 << 24) - 1, 1 << 24)]
    places = [
        (block, at) for block in blocks for at in {0, len(block) // 3, max(len(block) - 3, 0), len(block)}
    ]
    compiled = [pickles.plain_run(block, at, memo) for block, at in places]
    monkeypatch.setattr(pickles, "_skeleton_io", None)
    for (block, at), (end, tuples) in zip(places, compiled, strict=True):
        in_python = pickles.plain_run(block, at, memo)
        assert in_python[0] == end and tuples <= in_python[1], (block[:20], at)
