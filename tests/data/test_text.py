"""Texts of numbers: the C++ and the Python reader alike, to the bit or to the word of the error."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ikem_fast.data.formats import text
from ikem_fast.data.formats.text import as_numbers, as_rows

needs_extension = pytest.mark.skipif(text._skeleton_io is None, reason="ikem_fast._skeleton_io is not built")
READERS = [False, pytest.param(True, marks=needs_extension)]

WORDS = (
    "0", "-0.0", "+1", "+-1", "++1", "-+1", "--1", "+", "-", ".", "-.5", "5.", "1e5", "1E+05", "1e", "1e+",
    "1e-400", "1e400", "-1e400", "4.9e-324", "2e-324", "1.7976931348623157e308", "nan", "-nan", "+nan", "NaN",
    "nan(1)", "inf", "-Infinity", "infinit", "1_0", "0x10", "1d5", "1f", "007", "1" * 400, f"0.{'0' * 400}1",
    "9007199254740993", "0.1000000000000000055511151231257827", "x", "'1'", "#", "1\x00", "\x00", "١", "½",
)  # fmt: skip
BETWEEN = (" ", "\t", ",", ";", ", ", "  ", ",,", "\x0b", "\x0c", "\x1c", "\xa0", "\x85")
ENDS = ("\n", "\r\n", "\r", "\n\n", " \n", "\n \t\n", ",\n", "")


def outcome(read, content, built):
    """What a reader answers: the shape and the bits, or the words of its error."""
    extension, text._skeleton_io = text._skeleton_io, text._skeleton_io if built else None
    try:
        numbers = read(content)
        assert numbers.dtype == np.float64
        return numbers.shape, numbers.tobytes()
    except ValueError as error:
        return str(error)
    finally:
        text._skeleton_io = extension


def alike(content):
    for read in (as_rows, as_numbers, lambda content: as_rows(content, columns=3)):
        assert outcome(read, content, True) == outcome(read, content, False)


@needs_extension
@pytest.mark.parametrize("word", WORDS)
def test_odd_words(word):
    for content in (word, f"{word}\n", f"1 {word} 3\n4 5 6", f"1,2,{word}\n4,5,6\n", f"\ufeff{word} 2 3"):
        alike(content.encode())


@needs_extension
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("between", BETWEEN)
def test_odd_signs_between(between, end):
    lines = ["1 2 3", "-4.5 +6e-1 7", "8 9 10"]
    content = "".join(line.replace(" ", between) + end for line in lines)
    alike(content.encode())
    alike(content.encode("latin-1"))


@needs_extension
@given(st.lists(st.tuples(st.sampled_from(WORDS) | st.floats().map(repr), st.sampled_from(BETWEEN + ENDS))))
@example([("1", "\n"), ("2", " "), ("3", "\n")])
@settings(max_examples=300, deadline=None)
def test_any_text(parts):
    alike("".join(word + between for word, between in parts).encode())


@needs_extension
@given(st.binary(max_size=60) | st.text("0123456789.+-eE ,;\n\r\tnaif", max_size=60).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_any_bytes(content):
    alike(content)


@pytest.mark.parametrize("built", READERS)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"1 2 3\n4 5\n", "expected 3 numbers a line, found 2 in line 2"),
        (b"1 2 3\r\n\r\n4 5 6 7", "expected 3 numbers a line, found 4 in line 3"),
        (b"1 2\r3 4", "expected 3 numbers a line, found 2 in line 1"),
        (b"1,2,3\n\n4,nil,6", "expected numbers, found 'nil' in line 3"),
        (b"1,2,3\n4,1_0,6", "expected numbers, found '1_0' in line 2"),
        (b"1 2 3\n\xff\xfe", "expected numbers, found '\ufffd\ufffd' in line 2"),
    ],
)
def test_the_line_that_is_wrong_is_named(built, content, expected):
    assert outcome(lambda content: as_rows(content, columns=3), content, built) == expected


@pytest.mark.parametrize("content", [b"", b" \r\n,;", b"\x1c", b"\xa0\n"])
@pytest.mark.parametrize("built", READERS)
@pytest.mark.filterwarnings("error")
def test_texts_of_nothing(built, content):
    assert outcome(as_rows, content, built) == ((0, 0), b"")


@needs_extension
def test_the_extension_reads_what_is_plainly_numbers(monkeypatch):
    """The slow readers are not asked; of these numbers each is the nearest double."""
    monkeypatch.setattr(np, "loadtxt", None)
    monkeypatch.setattr(text, "_as_number", None)
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-300, 300, (50, 3))
    content = "".join(", ".join(map(repr, row)) + "\r\n" for row in numbers.tolist())
    np.testing.assert_array_equal(as_rows(content.encode()), numbers)
    np.testing.assert_array_equal(as_numbers(b"\xef\xbb\xbfnan;-inf\t+2.5\n\n1"), [np.nan, -np.inf, 2.5, 1])
