"""Charts in HTML and SVG, in the colors of the page's style; what is hovered is told by the page's script."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ikem_fast.evaluate.render.html.elements import Markup, join, tag

WIDTH, HEIGHT = 360, 232  # of a line chart, in units of its own: about as many as it has pixels on a phone
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 20, 40
MOST_POINTS = 300  # of a line


@dataclass(frozen=True)
class Bar:
    """One bar: its heading, value and deviation, and the class of its color."""

    label: str
    value: float
    deviation: float | None = None
    kind: str = "main"


def bars(rows: Sequence[tuple[str, Sequence[Bar]]], *, most: float = 100.0, unit: str = "%") -> Markup:
    """Draw groups of bars, one under the other: the first of a group thick, with its value."""
    groups = []
    for heading, group in rows:
        drawn = []
        for bar in group:
            share = 100 * min(max(bar.value / most, 0), 1)
            spread = None
            if bar.deviation:
                low, high = (
                    min(max(100 * (bar.value + side * bar.deviation) / most, 0), 100) for side in (-1, 1)
                )
                spread = tag("em", style=f"left:{low:.2f}%;width:{high - low:.2f}%")
            fill = tag("b", style=f"width:{share:.2f}%")
            figure = f"{bar.value:.1f}" + (f" ± {bar.deviation:.1f}" if bar.deviation is not None else "")
            drawn.append(
                tag(
                    "div",
                    tag("span", fill, spread, class_="track"),
                    tag("span", figure, class_="figure"),
                    class_=f"bar {bar.kind}",
                    title=f"{heading}, {bar.label}: {figure} {unit}",
                )
            )
        groups.append(tag("div", tag("div", heading, class_="what"), tag("div", drawn), class_="group"))
    return tag("div", groups, class_="bars")


def differences(rows: Sequence[tuple[str, float]], *, unit: str = "points") -> Markup:
    """Draw bars to both sides of a line, from the largest gain to the largest loss."""
    most = max((abs(value) for _, value in rows), default=1.0) or 1.0
    drawn = []
    for heading, value in sorted(rows, key=lambda row: -row[1]):
        share = 50 * abs(value) / most
        side = f"left:{50 if value >= 0 else 50 - share:.2f}%;width:{share:.2f}%"
        drawn.append(
            tag(
                "div",
                tag("span", heading, class_="what"),
                tag("span", tag("b", style=side, class_="up" if value >= 0 else "down"), class_="track"),
                tag("span", f"{value:+.1f}", class_="figure"),
                title=f"{heading}: {value:+.1f} {unit}",
            )
        )
    return tag("div", drawn, class_="differences")


def key(entries: Sequence[tuple[str, str]]) -> Markup:
    """Draw a legend of (class of a color, what it stands for)."""
    return tag("p", [tag("span", tag("i", class_=kind), text) for kind, text in entries], class_="key")


@dataclass(frozen=True)
class Line:
    """A line of a chart: x and y (n,), the band's low and high (n,), and the class of its color."""

    label: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    kind: str = "line-0"


@dataclass(frozen=True)
class LineChart:
    """Lines over one axis.

    shades: (first x, last x, what) of stretches that are shaded.
    """

    title: str
    x: str
    lines: Sequence[Line]
    shades: Sequence[tuple[float, float, str]] = ()
    digits: int = 1

    def data(self) -> dict[str, Any]:
        """List what the script tells of where a pointer is."""
        lines = [
            {"label": line.label, "kind": line.kind, "x": _rounded(line.x), "y": _rounded(line.y)}
            for line in map(_thinned, self.lines)
        ]
        x, y = self._ranges()
        return {"lines": lines, "range": x, "y": y, "name": self.x, "digits": self.digits,
                "frame": [LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM]}  # fmt: skip

    def draw(self, name: str) -> Markup:
        """Draw it; `name` is where the script finds its data."""
        (x0, x1), (y0, y1) = self._ranges()
        along = lambda x: LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)  # noqa: E731
        up = lambda y: HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)  # noqa: E731
        parts: list[Any] = []
        for first, last, what in self.shades:
            a, b = along(max(first, x0)), along(min(last, x1))
            parts.append(
                tag("rect", x=f"{a:.1f}", y=TOP, width=f"{b - a:.1f}", height=HEIGHT - TOP - BOTTOM,
                    class_="shade")
            )  # fmt: skip
            parts.append(tag("text", what, x=f"{a + 5:.1f}", y=TOP - 5))
        for y in ticks(y0, y1):
            parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=_at(up(y)), y2=_at(up(y)), class_="grid"))
            parts.append(tag("text", f"{y:g}", x=LEFT - 6, y=_at(up(y) + 4), text_anchor="end"))
        parts += [
            tag("text", f"{x:g}", x=_at(along(x)), y=HEIGHT - 23, text_anchor="middle") for x in ticks(x0, x1)
        ]
        parts.append(tag("text", self.x, x=WIDTH - RIGHT, y=HEIGHT - 6, text_anchor="end"))
        for line in map(_thinned, self.lines):
            if line.low is not None and line.high is not None:
                outline = [
                    *zip(line.x, line.high, strict=True),
                    *zip(line.x[::-1], line.low[::-1], strict=True),
                ]
                parts.append(tag("polygon", points=_path(outline, along, up), class_=f"band {line.kind}"))
            parts.append(
                tag("polyline", points=_path(zip(line.x, line.y, strict=True), along, up), class_=line.kind)
            )
        parts.append(tag("line", y1=TOP, y2=HEIGHT - BOTTOM, class_="cross", visibility="hidden"))
        box = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria_label": self.title}
        picture = tag("svg", parts, **box, class_="chart", data_chart=name)
        return tag("figure", tag("figcaption", self.title), picture, tag("output", class_="told"))

    def _ranges(self):
        x = np.concatenate([line.x for line in self.lines])
        drawn = [part for line in self.lines for part in (line.y, line.low, line.high) if part is not None]
        y = np.concatenate(drawn)
        y = y[np.isfinite(y)]
        low, high = (float(y.min()), float(y.max())) if y.size else (0.0, 1.0)
        low = min(low, 0.0)
        margin = 0.06 * ((high - low) or 1.0)
        bottom = low - margin if low else 0.0
        return [float(x.min()), float(max(x.max(), x.min() + 1))], [bottom, high + margin]


def heat(matrix: np.ndarray) -> str:
    """Make a square matrix of shares, 0 … 1, a PNG for a page of any color: ink that is more or less opaque.

    Returns:
        A data: address.
    """
    from PIL import Image

    shares = np.clip(matrix, 0, 1)
    alpha = np.round(255 * np.where(shares > 0, 0.22 + 0.78 * shares**0.7, 0)).astype(np.uint8)
    pixels = np.zeros((*alpha.shape, 4), np.uint8)
    pixels[..., :3] = (37, 99, 235)
    pixels[..., 3] = alpha
    pixels[~np.eye(len(matrix), dtype=bool), :3] = (219, 68, 55)
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Choose round numbers of a range, about `count`."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next(m for m in (1, 2, 2.5, 5, 10) if (high - low) / (m * step) <= count)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 10) for i in range(first, int(math.floor(high / step + 1e-9)) + 1)]


def _thinned(line):
    """At most so many points, each the mean of its stretch."""
    every = math.ceil(len(line.x) / MOST_POINTS)
    if every <= 1:
        return line
    parts = [slice(i, i + every) for i in range(0, len(line.x), every)]
    mean = lambda values: None if values is None else np.array([values[p].mean() for p in parts])  # noqa: E731
    return Line(line.label, mean(line.x), mean(line.y), mean(line.low), mean(line.high), line.kind)


def _path(points, along, up):
    return Markup(" ".join(f"{along(x):.1f},{up(y):.1f}" for x, y in points if math.isfinite(y)))


def _rounded(values):
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in values]


def _at(value):
    return f"{value:.1f}"


def grid(charts: Sequence[Markup]) -> Markup:
    """Put charts side by side where there is room."""
    return tag("div", join(charts), class_="grid")
