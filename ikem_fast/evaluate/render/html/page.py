"""Whole pages of sections: their style and script, the way through them, and what is told at their end."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ikem_fast import __version__
from ikem_fast.evaluate.render.html.elements import Markup, join, tag
from ikem_fast.pictures.page import document, player_script, player_settings


def page(
    title: str,
    subtitle: str,
    tiles: Sequence[tuple[str, str]],
    sections: Sequence[tuple[str, Markup | None]],
    data: Mapping[str, Any],
) -> str:
    """Put a page together: one file, which asks no network for anything.

    Args:
        title, subtitle: at its top.
        tiles: (figure, what it is), what a reader in a hurry reads.
        sections: (name in the navigation, section), those that are None left out.
        data: what the script finds; see page.js.
    """
    shown = [(name, one) for name, one in sections if one is not None]
    links = [tag("a", name, href="#" + one.split('id="', 1)[1].split('"', 1)[0]) for name, one in shown]
    facts = tag(
        "dl", [tag("div", tag("dt", what), tag("dd", value)) for value, what in tiles], class_="tiles"
    )
    eyebrow, lead = tag("p", "ikem-fast", class_="eyebrow"), tag("p", subtitle, class_="lead")
    told = f"Written by ikem-fast {__version__}. One file, no network: it may be sent or printed."
    body = join([
        tag("header", eyebrow, tag("h1", title), lead, facts),
        tag("nav", links),
        tag("main", [one for _, one in shown]),
        tag("footer", told),
    ])  # fmt: skip
    style, script = _shipped("page.css"), _shipped("page.js")
    return document(title, body, style, [player_script(), script], {"data": {**player_settings(), **data}})


@cache
def _shipped(name):
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
