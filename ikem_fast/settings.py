"""Settings that carry what they may be, and the one place that holds them against it.

A setting is a field of a dataclass. `setting` says beside its default which values it takes; `check` looks at
every setting of a configuration, of the configurations inside it too, and names the first that is out of it.
"""

import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any

from ikem_fast.errors import InputError


@dataclass(frozen=True)
class Allowed:
    """What a setting may be; None leaves a bound out.

    least, most: bounds that are themselves allowed; above, below: bounds that are not.
    choices: the names that a sequence may hold, each once; an empty sequence only where `empty` is true.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] | None = None
    empty: bool = False

    def problem_with(self, value: Any) -> str | None:
        """Say what was expected of a value, or None where it is allowed."""
        if value is None:
            return None
        if self.choices is not None:
            return self._problem_with_names(value)
        numbers = value if isinstance(value, list | tuple) else (value,)
        return None if all(map(self._holds, numbers)) else f"expected {self._bounds()}"

    def _problem_with_names(self, names: Sequence[str]) -> str | None:
        distinct = len(set(names)) == len(names) and (len(names) > 0 or self.empty)
        if distinct and all(name in self.choices for name in names):
            return None
        number = "each at most once" if self.empty else "at least one, each once"
        return f"expected names out of {', '.join(self.choices)}, {number}"

    def _holds(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def _bounds(self) -> str:
        signs = (("≥", self.least), (">", self.above), ("≤", self.most), ("<", self.below))
        return "a number " + " and ".join(f"{sign} {bound}" for sign, bound in signs if bound is not None)


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
    """Hold every setting of a configuration against what it may be.

    Args:
        config: a dataclass, some of whose fields may be dataclasses again.
        prefix: names of the settings that lead to this one, each with a dot behind it.

    Raises InputError that names the setting, what was expected and what was found.
    """
    for entry in fields(config):
        value = getattr(config, entry.name)
        if is_dataclass(value):
            check(value, f"{prefix}{entry.name}.")
        elif "allowed" in entry.metadata:
            problem = entry.metadata["allowed"].problem_with(value)
            if problem:
                raise InputError(f"{prefix}{entry.name}: {problem}, found {value!r}")
