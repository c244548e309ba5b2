"""Reading pages: of those that are written what runs in them, and what the documentation says to type."""

import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

from ikem_fast.cli import all_commands

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.links, self.inside, self.text = [], [], False, []

    def handle_starttag(self, tag, attributes):
        if tag == "script":
            self.inside = True
            self.scripts.append("")
        for name, value in attributes:
            outside = name in ("src", "href", "action", "data", "xlink:href") and not (
                value or ""
            ).startswith(("#", "data:"))
            if outside or name.startswith("on"):
                self.links.append((tag, name, value))

    def handle_endtag(self, tag):
        if tag == "script":
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data
        else:
            self.text.append(data)


def read_page(text):
    """A page, parsed: `scripts`, `links` out of it or attributes that run something, and `text`."""
    reader = _Reader()
    reader.feed(text)
    return reader


def scripts_and_links(text):
    """(text of each script, links out of the page and attributes that run something)."""
    reader = read_page(text)
    return reader.scripts, reader.links


def blocks(page, language):
    """The blocks of a language on a page of the documentation."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def commands(page):
    """The commands on a page of the documentation, as words, in order; $n is the number of a loop."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def command_of(words):
    """(name, words behind it) of a command of ours."""
    name = next(name for n in (2, 1) if (name := " ".join(words[1 : 1 + n])) in all_commands())
    return name, words[1 + len(name.split()) :]
