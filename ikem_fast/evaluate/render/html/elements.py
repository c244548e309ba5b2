"""HTML out of elements: what is text is escaped, whatever it holds; what is `Markup` stands as it is."""

import html
from collections.abc import Iterable
from typing import Any

from ikem_fast.errors import printable

VOID = ("br", "img", "input", "hr")
LIMIT = 4000  # characters of a text


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, *children: Any, **attributes: Any) -> Markup:
    """Write an element with children: `Markup` as it is, lists of children, anything else as escaped text.

    Attributes that are None or False are left out; `class_` is class, and `_` within a name is "-".

    Example:
        tag("p", "a < b", class_="note")  # <p class="note">a &lt; b</p>
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(printable(value, LIMIT))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{given}>" + ("" if name in VOID else f"{join(children)}</{name}>"))


def join(children: Iterable[Any]) -> Markup:
    """Write children one after the other."""
    parts = []
    for child in children:
        if isinstance(child, Markup):
            parts.append(child)
        elif isinstance(child, list | tuple):
            parts.append(join(child))
        elif child is not None:
            parts.append(html.escape(printable(child, LIMIT)))
    return Markup("".join(parts))


def section(title: str, lead: Any, *children: Any, name: str) -> Markup:
    """Write a section with a heading, a sentence or two, and what it is about.

    name: its anchor.
    """
    return tag("section", tag("h2", title), tag("p", lead, class_="lead"), *children, id=name)


def table(rows: list[list[Any]], **attributes: Any) -> Markup:
    """Write a table, the first row its headings, that scrolls where it is too wide."""
    head = tag("tr", [tag("th", cell, scope="col") for cell in rows[0]])
    body = [
        tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]]) for row in rows[1:]
    ]
    whole = tag("table", tag("thead", head), tag("tbody", body))
    return tag("div", whole, **{"class_": "scroll", "tabindex": "0", **attributes})
