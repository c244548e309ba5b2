"""Layouts as YAML files and as the tables that datasets and checkpoints keep.

name: chair                              # the file's, if not given
joints: [hip, spine, head, left hand, right hand]
parents: [-1, hip, spine, spine, spine]  # -1 or itself at a root; joints by name or by number, from 0
torso: [hip, left hand, right hand]      # these and what follows may be left out
shoulders: [right hand, left hand]
swap: [[left hand, right hand]]          # pairs, or for every joint the one in its place
axis_parents: [hip, hip, spine, spine, spine]
edges: [[spine, hip], [head, spine], [left hand, spine], [right hand, spine]]
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ikem_fast.errors import InputError, printable
from ikem_fast.plain_yaml import read_yaml
from ikem_fast.skeleton.layout import MAX_JOINTS, MAX_NAME, Layout
from ikem_fast.skeleton.registry import ALIASES, get_layout, layout_names

SUFFIXES = (".yaml", ".yml")
TABLES = ("name", "joints", "parents", "torso", "shoulders", "swap", "axis_parents", "edges")
REQUIRED = ("joints", "parents")


def find_layout(layout: str | Path | Layout) -> Layout:
    """Find the layout of a name or of a YAML file; a `Layout` is returned as it is.

    Raises InputError if there is neither, or if the file is no layout.

    Example:
        find_layout("kinect-v1"), find_layout("layouts/chair.yaml")
    """
    if isinstance(layout, Layout):
        return layout
    if str(layout).endswith(SUFFIXES):
        return load_layout(layout)
    try:
        return get_layout(str(layout))
    except ValueError:
        raise InputError(
            f"layout: expected one of {', '.join(layout_names())}, or a file that ends in "
            f"{' or '.join(SUFFIXES)}, found {printable(layout)!r}"
        ) from None


def load_layout(path: str | Path) -> Layout:
    """Read a layout from a YAML file, whose tables the module's docstring shows.

    Nothing in the file is run or expanded: anchors and tags are refused, and so is a file that is large or
    nested deeply.

    Raises InputError naming the file, the table and the joint, what was expected and what was found.

    Example:
        load_layout("layouts/chair.yaml").joints  # ("hip", "spine", …)
    """
    path = Path(path)
    with contextlib.suppress(RuntimeError):  # ~nobody
        path = path.expanduser()
    if not path.is_file():
        raise InputError(f"{path}: expected a YAML file with a joint layout, found no such file")
    content = read_yaml(path)
    if isinstance(content, dict):
        content.setdefault("name", path.stem[:MAX_NAME])
    layout = layout_of(content, str(path))
    if (layout.name in layout_names() or layout.name in ALIASES) and layout != get_layout(layout.name):
        raise InputError(
            f"{path}: name: expected another than that of a layout the package knows, found {layout.name!r}"
        )
    return layout


def layout_of(tables: Any, where: str = "layout") -> Layout:
    """Make a `Layout` of the tables that a file or `Layout.tables` holds.

    Args:
        tables: by name, as the module's docstring shows them.
        where: they are from, for messages.

    Raises InputError as `load_layout` does.

    Example:
        layout_of(get_layout("sbu").tables()) == get_layout("sbu")
    """
    if not isinstance(tables, Mapping):
        raise InputError(
            f"{where}: expected a joint layout, {', '.join(TABLES)}, found {printable(repr(tables))}"
        )
    unknown = [name for name in tables if name not in TABLES]
    missing = [name for name in REQUIRED if name not in tables]
    if unknown or missing:
        found = printable(", ".join(map(repr, unknown))) if unknown else f"no {' and no '.join(missing)}"
        raise InputError(f"{where}: expected tables out of {', '.join(TABLES)}, found {found}")
    reader = _Reader(tables, where)
    try:
        return Layout(
            name=tables.get("name", "own"),
            joints=tuple(reader.names),
            parents=reader.joints("parents", roots=True),
            torso=reader.joints("torso"),
            shoulders=reader.joints("shoulders"),
            swap=reader.swap(),
            axis_parents=reader.joints("axis_parents") or (),
            edges=reader.pairs("edges") or (),
        )
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from None


def stored_layout(description: Mapping[str, Any], where: str) -> Layout:
    """Return the layout that a dataset or a checkpoint was written with.

    Args:
        description: "layout", its name, and "skeleton", its tables; of old files the name alone.
        where: it is from, for messages.

    Raises InputError for tables that are none, or a name alone that is not known.

    Example:
        stored_layout({"layout": "sbu"}, "dataset.json").num_joints  # 15
    """
    name, tables = description.get("layout"), description.get("skeleton")
    if tables is not None:
        layout = layout_of(tables, f"{where}: skeleton")
        if layout.name != name:
            raise InputError(
                f"{where}: expected tables of layout {printable(repr(name))}, found those of {layout.name!r}"
            )
        return layout
    try:
        return get_layout(str(name))
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None


def different(layout: Layout, other: Layout) -> str:
    """Say which layout it is, for messages, next to another one that may have the same name.

    Example:
        different(get_layout("sbu"), get_layout("coco"))  # "'sbu'"
    """
    if layout.name != other.name:
        return repr(layout.name)
    mine, others = layout.tables(), other.tables()
    names = [name for name in TABLES if mine.get(name) != others.get(name)]
    return f"{layout.name!r} with other {' and '.join(names)}"


class _Reader:
    """Tables of joints, which are there by name or by number."""

    def __init__(self, tables, where):
        self.tables, self.where = tables, where
        self.names = self.list_of("joints", MAX_JOINTS)
        self.numbers = {name: v for v, name in enumerate(self.names) if isinstance(name, str)}

    def list_of(self, table, most):
        value = self.tables.get(table)
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            found = f"{len(value)} entries" if isinstance(value, list) else printable(repr(value))
            raise InputError(f"{self.where}: {table}: expected a list of 1 … {most} entries, found {found}")
        return value

    def joint(self, value, what, roots=False):
        """The number of a joint; of a root also -1."""
        if isinstance(value, str) and value in self.numbers:
            return self.numbers[value]
        if isinstance(value, int) and not isinstance(value, bool) and -roots <= value < len(self.names):
            return value
        minus = ", or -1 for a root" if roots else ""
        raise InputError(
            f"{self.where}: {what}: expected a joint's name or number 0 … {len(self.names) - 1}{minus}, "
            f"found {printable(repr(value))}"
        )

    def joints(self, table, roots=False):
        """A table of joints, or None where there is none; one entry a joint says which it is of."""
        if self.tables.get(table) is None:
            return None
        values = self.list_of(table, MAX_JOINTS)
        each = len(values) == len(self.names) and table not in ("torso", "shoulders")
        named = [f" of joint {v} ({printable(name)})" if each else "" for v, name in enumerate(self.names)]
        return tuple(
            self.joint(value, f"{table}{named[place] if each else ''}", roots)
            for place, value in enumerate(values)
        )

    def pairs(self, table):
        if self.tables.get(table) in (None, []):
            return None
        values = self.list_of(table, MAX_JOINTS * 16)
        for value in values:
            if not isinstance(value, list) or len(value) != 2:
                raise InputError(
                    f"{self.where}: {table}: expected pairs of joints, found {printable(repr(value))}"
                )
        return tuple((self.joint(a, table), self.joint(b, table)) for a, b in values)

    def swap(self):
        """For every joint the one in its place: as it stands, or of pairs."""
        values = self.tables.get("swap")
        if not isinstance(values, list) or not any(isinstance(value, list) for value in values):
            return self.joints("swap")
        swap = list(range(len(self.names)))
        for a, b in self.pairs("swap"):
            for one, other in ((a, b), (b, a)):
                if swap[one] not in (one, other):
                    raise InputError(
                        f"{self.where}: swap: expected each joint in one pair, found "
                        f"{printable(self.names[one])!r} in two"
                    )
                swap[one] = other
        return tuple(swap)
