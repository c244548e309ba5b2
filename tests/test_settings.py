"""Settings carry what they may be; one place checks them, of dataclasses and of functions alike."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from ikem_fast.errors import InputError
from ikem_fast.settings import Allowed, check, checked, setting


@dataclass
class Inner:
    share: float = setting(0.5, above=0, below=1)


@dataclass
class Config:
    count: int = setting(3, least=1, most=5)
    steps: tuple[int, ...] = setting((2, 4), least=1, rising=True)
    names: tuple[str, ...] = setting(("a",), choices=("a", "b"))
    maybe: tuple[str, ...] = setting((), choices=("a", "b"), empty=True)
    optional: int | None = setting(None, least=1)
    way: Literal["on", "off"] = "on"
    free: str = "anything"
    inner: Inner = field(default_factory=Inner)

    def problem(self):
        return (
            "count: expected at most 4 where way is off, found 5"
            if (self.count, self.way) == (5, "off")
            else None
        )


@pytest.mark.parametrize(
    "values",
    [{}, {"count": 1}, {"count": 5}, {"steps": ()}, {"steps": [3]}, {"names": ["b", "a"]}, {"optional": 1}],
)
def test_allowed_values_pass(values):
    check(Config(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 0}, "count: expected a number ≥ 1 and ≤ 5, found 0"),
        ({"count": 6}, "count: expected a number ≥ 1 and ≤ 5, found 6"),
        ({"count": float("nan")}, "count: .*found nan"),
        ({"count": "3"}, "count: .*found '3'"),
        ({"count": True}, "count: .*found True"),
        ({"steps": (2, 2)}, r"steps: expected rising numbers ≥ 1, found \(2, 2\)"),
        ({"steps": (0, 2)}, "steps: expected rising numbers ≥ 1"),
        ({"names": ()}, r"names: expected names out of a, b, at least one, each once, found \(\)"),
        ({"names": ("a", "a")}, "names: .*each once"),
        ({"names": "a"}, "names: .*found 'a'"),
        ({"names": [["a"]]}, "names: .*"),
        ({"maybe": ("c",)}, "maybe: expected names out of a, b, each at most once"),
        ({"optional": 0}, "optional: expected a number ≥ 1, found 0"),
        ({"way": "up"}, "way: expected one of on, off, found 'up'"),
        ({"inner": Inner(1)}, "inner.share: expected a number > 0 and < 1, found 1"),
        ({"count": 5, "way": "off"}, "count: expected at most 4 where way is off"),
    ],
)
def test_others_are_named_with_what_was_expected_and_found(values, message):
    with pytest.raises(InputError, match=f"^{message}"):
        check(Config(**values))


@checked
def work(
    out,
    clips: Annotated[int, Allowed(least=3)] = 60,
    workers: Annotated[int, Allowed(least=1)] | None = None,
    way: Literal["on", "off"] = "on",
):
    """Do the work."""
    return out, clips, workers, way


def test_a_functions_arguments_are_checked_like_settings():
    assert work("x", 3) == ("x", 3, None, "on")
    assert work.__doc__ == "Do the work."
    for arguments, message in (
        ({"clips": 2}, "clips: expected a number ≥ 3, found 2"),
        ({"workers": 0}, "workers: expected a number ≥ 1, found 0"),
        ({"way": "up"}, "way: expected one of on, off, found 'up'"),
    ):
        with pytest.raises(InputError, match=message):
            work("x", **arguments)
