"""Panels as images: an animated GIF, a film, a strip of a few frames."""

import math
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ikem_fast.errors import InputError, printable
from ikem_fast.files import replacing
from ikem_fast.pictures.scene import APART, Panel

FPS = 15
GIF_COLORS = 96
SUPERSAMPLED = 2
TRAIL = 9  # frames
YAW, PITCH, DISTANCE = -0.5, 0.22, 5.0  # radians, and heights from the viewer to the bodies


@dataclass(frozen=True)
class Theme:
    """Colors, as #rrggbb.

    sides: trunk, left and right; then those of a second body.
    marks: title of a panel → color of what is drawn in it.
    """

    page: str
    panel: str
    floor: str
    faint: str
    text: str
    quiet: str
    sides: tuple[str, ...]
    marks: dict[str, str]


_MARKS = {"motion": 0, "acceleration": 1, "rotation axis": 2, "angular velocity": 3}
THEMES = {
    "light": Theme(
        "#ffffff", "#f6f7fb", "#e2e5ef", "#b9bfd0", "#171a26", "#687087",
        ("#3b4258", "#0d9488", "#e4572e", "#6b7280", "#4f86e8", "#c850a8"),
        dict(zip(_MARKS, ("#2563eb", "#c026d3", "#0f9d58", "#d97706"), strict=True)),
    ),
    "dark": Theme(
        "#0e1018", "#171a26", "#262b3d", "#4d556e", "#eef0f8", "#949cb6",
        ("#c9cfe2", "#2dd4bf", "#ff8a65", "#9aa3b8", "#7aa8ff", "#f08bd2"),
        dict(zip(_MARKS, ("#60a5fa", "#e879f9", "#4ade80", "#fbbf24"), strict=True)),
    ),
}  # fmt: skip


def write_gif(panels: Sequence[Panel], path: Path, *, title: str = "", theme: str = "light") -> None:
    """Write an animated GIF of panels side by side, which plays for ever.

    Example:
        write_gif(modality_panels(clip, modalities, layout), Path("clip.gif"), title="waving")
    """
    from PIL import Image

    frames = list(_frames(panels, title, THEMES[theme]))
    palette = _palette(frames, THEMES[theme])
    flat = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with replacing(path) as beside:
        flat[0].save(
            beside, format="GIF", save_all=True, append_images=flat[1:], duration=1000 // FPS, loop=0,
            optimize=True,
        )  # fmt: skip


def _palette(frames, colors):
    """A palette image for all frames: plain areas have their colors exactly, or they flicker."""
    from PIL import Image

    sample = Image.new("RGB", (frames[0].width, 3 * frames[0].height))
    for i in range(3):
        sample.paste(frames[i * (len(frames) - 1) // 2], (0, i * frames[0].height))
    exact = [colors.page, colors.panel, colors.floor, colors.text, *colors.sides, *colors.marks.values()]
    exact = [channel for color in exact for channel in _channels(color)]
    others = sample.quantize(GIF_COLORS - len(exact) // 3, method=Image.Quantize.MEDIANCUT).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette(exact + others[: 3 * GIF_COLORS - len(exact)])
    return palette


def write_mp4(panels: Sequence[Panel], path: Path, *, title: str = "", theme: str = "light") -> None:
    """Write a film of panels side by side, by ffmpeg.

    Raises InputError where ffmpeg is missing or fails.

    Example:
        write_mp4(modality_panels(clip, modalities, layout), Path("clip.mp4"))
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise InputError(f"{path}: expected ffmpeg, which writes .mp4, found none on PATH; .gif needs none")
    frames = _frames(panels, title, THEMES[theme])
    first = next(frames)
    command = [
        program, "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24",
        "-s", f"{first.width}x{first.height}", "-r", str(FPS), "-i", "-", "-f", "mp4", "-pix_fmt", "yuv420p",
        "-movflags", "+faststart", "-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2",
    ]  # fmt: skip
    with replacing(path) as beside:
        ended = subprocess.run(
            [*command, str(beside.absolute())],
            input=b"".join(frame.tobytes() for frame in (first, *frames)),
            capture_output=True,
            check=False,
        )
        if ended.returncode or not beside.exists():
            raise InputError(f"{path}: ffmpeg failed: {printable(ended.stderr.decode(errors='replace'))}")


def write_strip(
    panels: Sequence[Panel], path: Path, *, title: str = "", theme: str = "light", count: int = 8
) -> None:
    """Write a PNG with a row for each panel and a few of its frames, first to last.

    Example:
        write_strip(modality_panels(clip, modalities, layout), Path("clip.png"), count=6)
    """
    from PIL import Image, ImageDraw

    colors, size, side, head = THEMES[theme], 200, 150, 56 if title else 12
    count = min(count, len(panels[0].points))
    image = Image.new("RGB", (side + count * size, head + len(panels) * size), colors.page)
    draw = ImageDraw.Draw(image)
    if title:
        draw.text((20, head / 2), printable(title, 90), colors.text, _font(20, bold=True), anchor="lm")
    scale = fitting_scale(panels)
    for row, panel in enumerate(panels):
        middle = head + (row + 0.5) * size
        draw.text((20, middle - 10), _broken(panel.title), colors.text, _font(15, bold=True), anchor="lm")
        last = len(panel.points) - 1 - (2 if panel.mark in ("arrow", "turn") else 0)  # later, nothing is next
        for column in range(count):
            frame = round(column * max(last, 0) / max(count - 1, 1))
            tile = _drawn(panel, frame, (size - 4, size - 4), colors, scale, head=False)
            image.paste(tile, (side + column * size + 2, head + row * size + 2))
    with replacing(path) as beside:
        image.save(beside, format="PNG", optimize=True)


def _frames(panels, title, colors):
    """Yield each frame of the panels side by side, as images."""
    from PIL import Image, ImageDraw

    columns = len(panels) if len(panels) <= 2 else min(3, len(panels)) if len(panels) != 4 else 2
    rows = math.ceil(len(panels) / columns)
    gap, size, head = 8, (292, 300), 44 if title else 8
    width, height = columns * (size[0] + gap) + gap, head + rows * (size[1] + gap)
    scale = fitting_scale(panels)
    for frame in range(len(panels[0].points)):
        image = Image.new("RGB", (width, height), colors.page)
        if title:
            font = _font(18, bold=True)
            ImageDraw.Draw(image).text((gap + 8, head / 2), printable(title, 70), colors.text, font, "lm")
        for place, panel in enumerate(panels):
            row, column = divmod(place, columns)
            corner = (gap + column * (size[0] + gap), head + row * (size[1] + gap))
            image.paste(_drawn(panel, frame, size, colors, scale), corner)
        yield image


def fitting_scale(panels: Sequence[Panel], least: float = 0.72) -> float:
    """Choose how many heights a picture's half width stands for, the same for all panels: `least` or more."""
    points = np.concatenate([panel.points.reshape(-1, 3) for panel in panels])
    points = points[np.isfinite(points).all(1)]
    reach = float(np.percentile(np.hypot(points[:, 0], points[:, 2]), 99)) if len(points) else APART
    return min(max(least, 0.12 + reach), 1.6)


def _drawn(panel, frame, size, colors, scale, head=True):
    """One panel at one frame, (width, height) pixels."""
    from PIL import Image, ImageDraw

    k = SUPERSAMPLED
    image = Image.new("RGB", (size[0] * k, size[1] * k), colors.page)
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, size[0] * k - 1, size[1] * k - 1), 12 * k, colors.panel)
    top = 46 if head else 8
    unit = min(size[0] * k / (2 * scale), (size[1] - top - 14) * k / 1.16)
    spare = (size[1] - top - 14) * k - 1.16 * unit
    canvas = _Canvas(draw, colors, unit, (size[0] * k / 2, (size[1] - 20) * k - 0.4 * spare), k)
    _floor(canvas, scale)
    _bodies(canvas, panel, frame)
    _marks(canvas, panel, frame)
    image = image.reduce(k)
    if head:
        draw = ImageDraw.Draw(image)
        draw.text((14, 20), printable(panel.title, 34), colors.text, _font(15, bold=True), anchor="lm")
        draw.text((14, 39), printable(panel.caption, 44), colors.quiet, _font(12), anchor="lm")
    return image


class _Canvas:
    """Draws points of a picture's space as the viewer sees them."""

    def __init__(self, draw, colors, unit, middle, k):
        self.draw, self.colors, self.unit, self.middle, self.k = draw, colors, unit, middle, k

    def seen(self, points):
        """(…,3) → pixels (…,2) and how far behind the middle (…,)."""
        points = np.asarray(points, dtype=float)
        x, y, z = np.moveaxis(points, -1, 0)
        across = -(x * math.cos(YAW) + z * math.sin(YAW))
        behind = z * math.cos(YAW) - x * math.sin(YAW)
        up = y * math.cos(PITCH) + behind * math.sin(PITCH)
        behind = behind * math.cos(PITCH) - y * math.sin(PITCH)
        near = DISTANCE / (DISTANCE + behind)
        pixels = np.stack([self.middle[0] + self.unit * across * near,
                           self.middle[1] - self.unit * (up * near)], -1)  # fmt: skip
        return pixels, behind

    def line(self, points, color, width):
        points = [tuple(point) for point in points]
        width = max(1, round(width * self.k))
        self.draw.line(points, fill=color, width=width, joint="curve")
        if width > 2:
            for x, y in (points[0], points[-1]):
                self.dot((x, y), width / 2 / self.k, color)

    def dot(self, point, radius, color):
        (x, y), r = point, radius * self.k
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=color)

    def arrow(self, tail, tip, color, width):
        """With a head, if it is long enough to have a direction."""
        tail, tip = np.asarray(tail), np.asarray(tip)
        length = float(np.hypot(*(tip - tail)))
        head = min(3.6 * width * self.k, 0.6 * length)
        if length < 1.5 * self.k:
            return
        along = (tip - tail) / length
        across = np.array([-along[1], along[0]])
        neck = tip - head * along
        self.line([tail, neck], color, width)
        corners = [tip, neck + 0.55 * head * across, neck - 0.55 * head * across]
        self.draw.polygon([tuple(corner) for corner in corners], fill=color)


def _floor(canvas, scale):
    """A grid to stand on."""
    reach = min(scale, 1.2)
    for offset in np.linspace(-reach, reach, 7):
        for ends in (((offset, 0, -reach), (offset, 0, reach)), ((-reach, 0, offset), (reach, 0, offset))):
            canvas.line(canvas.seen(np.array(ends))[0], canvas.colors.floor, 0.8)


def _bodies(canvas, panel, frame):
    """Trails, then bones from the farthest to the nearest; faint where something else is the matter."""
    points = panel.points[frame]
    there = np.isfinite(points).all(1)
    pixels, behind = canvas.seen(np.nan_to_num(points))
    colors, plain = canvas.colors, panel.mark == "trail"
    sides = {joint: side for joint, _, side in panel.bones}
    for joint in panel.ends:
        way = panel.points[max(0, frame - TRAIL) : frame + 1, joint]
        way = canvas.seen(way[np.isfinite(way).all(1)])[0]
        for age, piece in enumerate(zip(way[-2::-1], way[:0:-1], strict=True)):
            color = _mixed(colors.sides[sides.get(joint, 0)], colors.panel, 0.35 + 0.65 * age / TRAIL)
            canvas.line(piece, color, 2.2 * (1 - age / (TRAIL + 2)))
    if panel.mark == "stick":
        return
    for joint, other, side in sorted(panel.bones, key=lambda bone: -behind[bone[0]] - behind[bone[1]]):
        if there[joint] and there[other]:
            color = colors.sides[side] if plain else colors.faint
            far = np.clip((behind[joint] + behind[other]) / 2 + 0.1, 0, 0.45)
            canvas.line([pixels[joint], pixels[other]], _mixed(color, colors.panel, far), 4 if plain else 2.6)
    for joint in np.flatnonzero(there):
        color = colors.sides[sides.get(joint, 0)] if plain else colors.faint
        canvas.dot(pixels[joint], 3.1 if plain else 2.2, color)


def _marks(canvas, panel, frame):
    """What starts at joints."""
    if panel.vectors is None:
        return
    starts, vectors = panel.starts[frame], panel.vectors[frame]
    shown = np.flatnonzero(np.isfinite(starts).all(1) & np.isfinite(vectors).all(1))
    sides = {joint: side for joint, _, side in panel.bones}
    _, behind = canvas.seen(np.nan_to_num(starts))
    for joint in sorted(shown, key=lambda joint: -behind[joint]):
        color = canvas.colors.marks.get(panel.title)
        if panel.mark == "stick":
            color = canvas.colors.sides[sides[joint]] if joint in sides else canvas.colors.marks["motion"]
        ends = canvas.seen(np.stack([starts[joint], starts[joint] + vectors[joint]]))[0]
        if panel.mark == "turn":
            canvas.line(ends, _mixed(color, canvas.colors.panel, 0.55), 1.4)
            arc = canvas.seen(starts[joint] + around(vectors[joint]))[0]
            canvas.line(arc[:-2], color, 1.9)
            canvas.arrow(arc[-4], arc[-1], color, 1.9)
        else:
            canvas.arrow(*ends, color, 3.2 if panel.mark == "stick" else 2.2)


def around(vector: np.ndarray) -> np.ndarray:
    """Make an arc (16,3) about a vector at the origin, that turns as it says, larger for longer ones."""
    length = float(np.linalg.norm(vector))
    axis = vector / max(length, 1e-12)
    least = np.eye(3)[int(np.argmin(np.abs(axis)))]
    first = np.cross(axis, least)
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    angles = np.linspace(0, 1.5 * math.pi, 16)[:, None]
    return (0.025 + 0.3 * length) * (np.cos(angles) * first + np.sin(angles) * second)


def _broken(text):
    """A title on two lines where it has two words."""
    return printable(text, 40).replace(" ", "\n", 1)


def _mixed(color, other, share):
    """A color with a share of another."""
    pairs = zip(_channels(color), _channels(other), strict=True)
    return tuple(round(a + (b - a) * float(share)) for a, b in pairs)


def _channels(color):
    return color if isinstance(color, tuple) else tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def _font(size, bold=False):
    from matplotlib import get_data_path
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", name)), size)
