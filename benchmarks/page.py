"""Measured tables in docs/performance.md: each between two marks, rewritten by the benchmark it names."""

import os
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def publish(name, text, plots=()):
    """Put text and pictures between the marks `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises ValueError where the page has no such marks.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    page = PAGE.read_text(encoding="utf-8")
    if page.count(begin) != 1 or page.count(end) != 1:
        raise ValueError(f"{PAGE}: expected {begin} and {end} once each")
    images = [f"![{plot.stem}]({os.path.relpath(plot.resolve(), PAGE.parent)})" for plot in sorted(plots)]
    before, after = page.split(begin)[0], page.split(end)[1]
    PAGE.write_text("\n".join([before + begin, text, "", *images, end + after]), encoding="utf-8")
