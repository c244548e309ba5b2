"""Write anew the page of each format in docs/formats, after a change of its docstring or options.

python tools/format_pages.py
"""

import inspect
import re
import sys
import textwrap
from pathlib import Path

from ikem_fast.cli.index import read_index
from ikem_fast.data import FORMATS
from ikem_fast.data.formats import Format
from ikem_fast.files import write_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTE = "<!-- Written by `python tools/format_pages.py` out of the package: do not edit. -->"


def pages() -> dict[str, str]:
    """File below docs → its text."""
    index = read_index()
    return {
        f"formats/{name}.md": page(one, index[f"prepare {name}"]["help"]) for name, one in FORMATS.items()
    }


def page(form: Format, shown: str) -> str:
    """The page of one format. shown: what --help of its command shows."""
    described = inspect.getdoc(sys.modules[form.prepare.__module__]) or ""
    options = re.search(r"(needed:\n.*?)(?=\n\n(?:preprocessing|rules|example):)", shown, re.DOTALL)
    uses = {
        "`ikem-fast predict` and `view` read its files": form.read,
        "`ikem-fast write` writes it": form.write,
    }
    facts = [f"Its joints are those of the layout `{form.layout}`."] if form.layout else []
    facts += [f"{said}." for said, there in uses.items() if there]
    return "\n\n".join([
        NOTE,
        f"# {form.name}",
        *map(paragraph, described.split("\n\n")),
        f"```sh\n{form.example}\n```",
        " ".join(facts) or "It makes clips, and reads none.",
        "## Options",
        f"```\n{textwrap.dedent(options[1])}\n```",
        "What all formats share, splits by rule and preprocessing by choice, is on the page of "
        "[data of your own](../own_data.md); how formats compare, and what some have lost, on that of "
        "[formats](../formats.md).\n",
    ])  # fmt: skip


def paragraph(text: str) -> str:
    """Prose as a line, what stands in columns or is indented as it is."""
    if re.search(r"^ {2,}\S|\S {3,}\S", text, re.MULTILINE):
        language = "sh" if "ikem-fast" in text else ""
        return f"```{language}\n{textwrap.dedent(text)}\n```"
    return " ".join(text.split())


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        write_text(DOCS / name, text)
