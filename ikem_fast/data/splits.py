"""Which clips are for training and which for the test, by rules that are the same for every format.

subject=1,3,5                        an attribute of the clips and its values: subject, view, setup, …
list=train.txt                       a file with the names of the clips, one a line
ratio=0.8,seed=0                     a share of the clips of each class, drawn
ratio=0.8,by=subject,seed=0          a share of the subjects
fold=2/5,seed=0                      the second of five parts of the clips of each class
fold=2/5,by=subject                  the second of five parts of the subjects
fold=2/all,by=subject                the second subject: leave-one-out, over all of them
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ikem_fast.errors import InputError, printable

MAX_LIST_BYTES = 1 << 26
_OPTIONS = {"ratio": ("seed", "by"), "fold": ("seed", "by")}
_NTU = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})", re.ASCII)
_NTU_PARTS = ("setup", "view", "subject", "replication", "action")
_PARTS = {"a": "action", "s": "subject", "t": "trial", "e": "episode", "v": "view"}
_LETTERS = re.compile(r"(?:^|_)([astev])(\d+)(?=_|$)", re.ASCII)


def attributes_of_name(name: str) -> dict[str, str]:
    """Read what a clip's name says: of names such as S001C002P003R002A013 and a12_s10_e05_v03.

    Example:
        attributes_of_name("a12_s10_v03")  # {"action": "12", "subject": "10", "view": "3"}
    """
    ntu = _NTU.search(name)
    if ntu:
        pairs: Iterable[tuple[str, str]] = zip(_NTU_PARTS, ntu.groups(), strict=True)
    else:
        pairs = ((_PARTS[letter], number) for letter, number in _LETTERS.findall(name))
    return {part: str(int(number)) for part, number in pairs}


class Choosable:
    """What clips can be chosen by.

    names: of the clips.
    labels: their classes.
    attributes: attribute → its value of each clip, as texts.
    where: they are from, for messages.
    """

    def __init__(
        self,
        names: Sequence[str],
        labels: Sequence[int],
        attributes: Mapping[str, Sequence[str]],
        where: str,
    ) -> None:
        self.names, self.labels, self.where = list(names), np.asarray(labels), where
        self.attributes = {name: np.asarray(values, str) for name, values in attributes.items()}

    def splits(self, train: str | None, test: str | None) -> list[str]:
        """Say of each clip whether it is in "train", "test" or, where both rules leave it out, in "".

        train, test: rules as the module's docstring shows them; with one of them, the rest is the other's.

        Raises InputError naming the rule, what was expected and what was found; also where both have a clip.

        Example:
            clips.splits("subject=1,3,5", None)
        """
        if train is None and test is None:
            raise InputError("train: expected attribute=value,value,…, found neither train nor test")
        is_train = None if train is None else self.chosen("train", train)
        is_test = ~is_train if test is None else self.chosen("test", test)
        is_train = ~is_test if is_train is None else is_train
        both = int((is_train & is_test).sum())
        if both:
            raise InputError(
                f"test: expected no clip in train={train!r} and test={test!r}, found {both} of "
                f"{self.where} in both"
            )
        return ["train" if a else "test" if b else "" for a, b in zip(is_train, is_test, strict=True)]

    def chosen(self, option: str, rule: str) -> np.ndarray:
        """(N,) bool of the clips that a rule names; `option` has it, for messages."""
        kind, _, rest = rule.partition("=")
        if kind == "list" and rest:
            return self._listed(option, rest)
        if kind in _OPTIONS and kind not in self.attributes and rest:
            what, *options = rest.split(",")
            return self._drawn(option, rule, kind, what.strip(), options)
        return self._valued(option, rule, kind, [value.strip() for value in rest.split(",")])

    def _valued(self, option, rule, attribute, wanted):
        if attribute not in self.attributes or wanted == [""]:
            raise InputError(
                f"{option}: expected attribute=value,value,… with an attribute among "
                f"{', '.join(map(printable, self.attributes)) or '(there is none)'}, or list=FILE, ratio=0.8 "
                f"or fold=1/5, found {rule!r}"
            )
        column = self.attributes[attribute]
        missing = sorted(set(wanted) - set(column.tolist()))
        if missing:
            known = ", ".join(map(printable, in_order(column)[:50]))
            raise InputError(
                f"{option}: expected values of {attribute!r} that are in {self.where} ({known}), found "
                f"{', '.join(missing)}"
            )
        return np.isin(column, wanted)

    def _listed(self, option, file):
        try:
            with Path(file).expanduser().open("rb") as stream:
                content = stream.read(MAX_LIST_BYTES + 1)
            if len(content) > MAX_LIST_BYTES:
                raise ValueError(f"more than {MAX_LIST_BYTES} bytes")
            lines = content.decode("utf-8-sig").splitlines()
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"{option}: expected a list of clip names, found: {printable(error)}") from None
        wanted = {line.strip() for line in lines if line.strip()}
        known = {alias: name for name in self.names for alias in (name, Path(name).stem)}
        missing = sorted(name for name in wanted if name not in known and Path(name).stem not in known)
        if missing or not wanted:
            shown = ", ".join(map(printable, missing[:3])) or "none"
            raise InputError(
                f"{option}: expected names of clips in {printable(file)}, such as "
                f"{printable(self.names[0]) if self.names else '(there is none)'}, found {len(missing)} that "
                f"are none: {shown}"
            )
        found = {known.get(name, known.get(Path(name).stem)) for name in wanted}
        return np.array([name in found for name in self.names], bool)

    def _drawn(self, option, rule, kind, what, options):
        given = dict(part.strip().partition("=")[::2] for part in options)
        seed, by = given.pop("seed", "0"), given.pop("by", None)
        if given or not re.fullmatch(r"\d{1,9}", seed) or (by is not None and by not in self.attributes):
            raise InputError(
                f"{option}: expected {kind}=…, seed=NUMBER and by=ATTRIBUTE out of "
                f"{', '.join(map(printable, self.attributes)) or '(there is none)'}, found {rule!r}"
            )
        if by is None:
            groups = [np.flatnonzero(self.labels == label) for label in np.unique(self.labels)]
        else:
            groups = [np.array(in_order(self.attributes[by]))]
        take = _ratio(option, rule, what) if kind == "ratio" else _fold(option, rule, what, groups, by)
        parts = [take(_shuffled(group, int(seed), place)) for place, group in enumerate(groups)]
        chosen = np.concatenate(parts) if parts else np.array([], int)
        if by is None:
            return np.isin(np.arange(len(self.labels)), chosen)
        return np.isin(self.attributes[by], chosen)


def _ratio(option, rule, what):
    try:
        share = float(what)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise InputError(f"{option}: expected a ratio between 0 and 1, found {rule!r}")
    return lambda group: group[: round(share * len(group))]


def _fold(option, rule, what, groups, by):
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6}|all)", what)
    if match and match[2] == "all" and by is not None:
        number, count = int(match[1]), len(groups[0])
        if 1 <= number <= count:
            value = groups[0][number - 1]
            return lambda group: group[group == value]
        raise InputError(f"{option}: expected a fold of 1 … {count}, one for each {by}, found {rule!r}")
    number, count = (int(match[1]), int(match[2])) if match and match[2] != "all" else (0, 0)
    most = len(groups[0]) if by is not None else count
    if not 1 <= number <= count or not 2 <= count <= most:
        raise InputError(
            f"{option}: expected fold=NUMBER/COUNT, such as fold=1/5, of at least two folds"
            f"{f' and at most {most} of {by}' if by else ''}, or fold=NUMBER/all with by=ATTRIBUTE, "
            f"found {rule!r}"
        )
    return lambda group: group[number - 1 :: count]


def _shuffled(group, seed, place):
    return np.random.default_rng((seed, place)).permutation(group)


def in_order(values: np.ndarray) -> list[str]:
    """List each text once, numbers by their size.

    Example:
        in_order(np.array(["10", "9", "10"]))  # ["9", "10"]
    """
    as_number = lambda text: (0, int(text), text) if text.isdecimal() else (1, 0, text)  # noqa: E731
    return sorted(set(np.asarray(values).tolist()), key=as_number)
