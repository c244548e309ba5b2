"""Settings that carry what they may be, and the one place that holds them against it.

A setting is a field of a dataclass, or a parameter of a function that is `checked`. What it may be stands
beside its default (`setting`) or in its annotation (`Annotated[int, Allowed(least=1)]`); `check` looks at
every setting of a configuration, of the configurations inside it too, and names the first that is out of it.
"""

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from itertools import pairwise
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ikem_fast.errors import InputError


@dataclass(frozen=True, repr=False)
class Allowed:
    """What a setting may be; None leaves a bound out.

    least, most: bounds that are themselves allowed; above, below: bounds that are not.
    rising: whether each number of a sequence must be larger than the one before it.
    choices: the names that a sequence may hold, each once; an empty sequence only where `empty` is true.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    rising: bool = False
    choices: tuple[str, ...] | None = None
    empty: bool = False

    def __repr__(self) -> str:
        """Say it as a message and a help text do."""
        if self.choices is not None:
            number = "each at most once" if self.empty else "at least one, each once"
            return f"names out of {', '.join(self.choices)}, {number}"
        signs = (("≥", self.least), (">", self.above), ("≤", self.most), ("<", self.below))
        bounds = " and ".join(f"{sign} {bound}" for sign, bound in signs if bound is not None)
        return f"rising numbers {bounds}" if self.rising else f"a number {bounds}"

    def problem_with(self, value: Any) -> str | None:
        """Say what was expected of a value, or None where it is allowed."""
        if value is None or (self._names(value) if self.choices is not None else self._numbers(value)):
            return None
        return f"expected {self!r}"

    def _names(self, names):
        if not isinstance(names, list | tuple) or not all(name in self.choices for name in names):
            return False
        return len(set(names)) == len(names) and (len(names) > 0 or self.empty)

    def _numbers(self, value):
        numbers = value if isinstance(value, list | tuple) else (value,)
        if not all(map(self._holds, numbers)):
            return False
        return not self.rising or all(a < b for a, b in pairwise(numbers))

    def _holds(self, number):
        return (
            isinstance(number, int | float)
            and not isinstance(number, bool)
            and math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )


def setting(default: Any = MISSING, **allowed: Any) -> Any:
    """Make a field of a configuration with a default (none: it must be given) and what it may be.

    Example:
        @dataclass
        class Config:
            lr: float = setting(0.1, above=0)
            students: tuple[str, ...] = setting(("joint",), choices=MODALITIES)
    """
    return field(default=default, metadata={"allowed": Allowed(**allowed)})


def check(config: Any, prefix: str = "") -> None:
    """Hold every setting of a configuration against what it may be, alone and then beside the others.

    A configuration with rules between its settings has a method `problem()`: what is wrong, or None.

    Args:
        config: a dataclass, some of whose fields may be dataclasses again.
        prefix: names of the settings that lead to this one, each with a dot behind it.

    Raises InputError that names the setting, what was expected and what was found.

    Example:
        check(PretrainConfig(data="data", out="run", lr=-1))  # lr: expected a number > 0 …, found -1
    """
    hints = get_type_hints(type(config))
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            check(value, f"{prefix}{entry.name}.")
        else:
            _hold(f"{prefix}{entry.name}", value, entry.metadata.get("allowed"), hints[entry.name])
    problem = config.problem() if hasattr(config, "problem") else None
    if problem:
        raise InputError(f"{prefix}{problem}")


def checked(function: Callable) -> Callable:
    """Have a function's arguments held against their annotations ahead of each call, like a configuration's.

    Example:
        @checked
        def prepare(out: Path, clips: Annotated[int, Allowed(least=3)] = 60): ...
    """
    signature = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)

    @functools.wraps(function)
    def with_checks(*args, **kwargs):
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in hints:
                _hold(name, value, _allowed_in(hints[name]), hints[name])
        return function(*args, **kwargs)

    return with_checks


def _allowed_in(hint):
    """The `Allowed` of an annotation, of `Annotated[…] | None` too."""
    parts = (hint, *get_args(hint))
    found = [extra for part in parts for extra in getattr(part, "__metadata__", ())]
    return next((extra for extra in found if isinstance(extra, Allowed)), None)


def _hold(name, value, allowed, hint):
    problem = allowed and allowed.problem_with(value)
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    literal = next((part for part in parts if get_origin(part) is Literal), None)
    others = tuple(part for part in parts if isinstance(part, type))
    if literal and value not in get_args(literal) and not isinstance(value, others):
        problem = f"expected one of {', '.join(map(str, get_args(literal)))}"
    if problem:
        raise InputError(f"{name}: {problem}, found {value!r}")
