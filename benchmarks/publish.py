"""Putting measured tables into docs/performance.md, between the marks that name them."""

import os

from benchmarks.harness import ROOT

PAGE = ROOT / "docs" / "performance.md"


def publish(name, lines, plots=()):
    """Replace what stands between the marks of `name` by lines of Markdown and pictures."""
    start, end = f"<!-- {name}: measured -->", f"<!-- {name}: end -->"
    text = PAGE.read_text()
    before, after = text.split(start)[0], text.split(end)[1]
    images = [f"![{plot.stem}]({os.path.relpath(plot.resolve(), PAGE.parent)})" for plot in plots]
    PAGE.write_text("\n".join([before + start, *lines, *(["", *images] if images else []), end + after]))


def where(machine):
    """One line of Markdown: what the figures depend on besides the code."""
    name = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
    return (
        f"{name}; torch {machine['torch']}; load before {machine['load']:.1f}; "
        f"commit {machine['commit'][:10]}{' with changes' if machine['changed'] else ''}."
    )
