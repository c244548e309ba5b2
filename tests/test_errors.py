"""How messages quote what others wrote."""

import pytest

from ikem_fast.errors import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Größe … 字", "Größe … 字"),
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("two\nlines\t", r"two\nlines\t"),
        ("\udcff\u202e", r"\udcff\u202e"),
        (ValueError("no"), "no"),
        ("a" * 12, "aaaaaaaaaa..."),
    ],
)
def test_printable(text, shown):
    assert printable(text, limit=10 if shown.endswith("...") else 300) == shown
    assert printable(text).isprintable()
