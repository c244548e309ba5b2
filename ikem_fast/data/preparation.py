"""How clips are prepared, the same for every format: what becomes of coordinates, and which clips are where.

What is chosen here is in force while a block lasts, whichever format prepares in it:

    with preparing(Preparation(Preprocessing(frames=64, align="none"), Rules(train="ratio=0.8"))):
        FORMATS["ntu"].prepare(out, source, "ntu60-xsub")
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from ikem_fast.errors import InputError
from ikem_fast.settings import check, setting
from ikem_fast.skeleton import Layout, find_layout

NUM_FRAMES = 50
MOST_FRAMES = 10_000
MOST_BODIES = 64

Moment = Literal["frame", "clip", "pair", "none"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What is done to the coordinates of a clip; the defaults are what published results are made with.

    Args:
        damaged: What becomes of a clip with coordinates such as NaN: it is left out, or they are interpolated
            over time from those of other frames.
        frames: How many frames each clip is resampled to; 50, or as the format has it, if not given.
        sampling: How: linear, between frames, as an image is resized; uniform, one frame out of each of so
            many equal parts, as PYSKL does for tests; none, the first frames as they are, the last one held
            where a clip has fewer.
        center: What is subtracted: each body's root in each frame, or in the whole clip the first body's root
            in the first frame (which keeps where bodies go and how far from each other they are), or for a
            pair the middle between the first two bodies' roots in the first frame that has both, or nothing.
            A clip without a second body is centered as by clip.
        align: What is turned about y until the shoulders lie along x: each body in each frame, or the whole
            clip as its first frame needs it, or nothing; for a pair the whole clip until x leads from the
            first body to the second, in the first frame that has both. A clip without a second body is
            turned as by clip.
        scale: A factor for all coordinates, such as 0.001 for millimeters.
        reach: How far the joints of each clip's first body are to reach from its root (the median over
            frames of the farthest), about 1 in meters; as it is, if not given.
        up: Which axis of the files points up, or that y points down, as in images; it becomes y.
        num_bodies: How many bodies a clip has; as the format has it, if not given. Missing ones are zero.
        bodies_by: Which bodies are kept where a clip has more: the first in order, or those that move most.
        frame_rate: Frames a second to bring clips to ahead of everything else, where their own is known.
        source_rate: Frames a second of the files, where they do not say.
        planar: Whether poses are in a plane: the third number of a joint is a score or 0, and stays as it is.
        to_layout: The joint layout to bring clips into, ahead of everything else: a name or a YAML file.
    """

    damaged: Literal["leave-out", "interpolate"] = "leave-out"
    frames: int | None = setting(None, least=1, most=MOST_FRAMES)
    sampling: Literal["linear", "uniform", "none"] = "linear"
    center: Moment = "frame"
    align: Moment = "frame"
    scale: float = setting(1.0, above=0)
    reach: float | None = setting(None, above=0)
    up: Literal["y", "z", "y-down"] = "y"
    num_bodies: int | None = setting(None, least=1, most=MOST_BODIES)
    bodies_by: Literal["order", "motion"] = "order"
    frame_rate: float | None = setting(None, above=0, most=1e6)
    source_rate: float | None = setting(None, above=0, most=1e6)
    planar: bool = False
    to_layout: str | None = None

    def problem(self) -> str | None:
        """Say which settings do not go together, or None."""
        if self.planar and self.align != "none":
            return f"align: expected none for poses in a plane, found {self.align!r}"
        if self.source_rate is not None and self.frame_rate is None:
            return "source_rate: expected a frame_rate to bring clips to, found none"
        if self.reach is not None and self.scale != 1.0:
            return "reach: expected one of scale and reach, found both"
        return None

    @classmethod
    def of(cls, prepared: Mapping[str, Any]) -> "Preprocessing":
        """Read the settings that a dataset was prepared with; what it does not say was as by default.

        Raises InputError where one is out of its range.
        """
        names = {entry.name for entry in fields(cls)}
        settings = cls(**{name: value for name, value in prepared.items() if name in names})
        check(settings)
        return settings

    def chosen(self) -> dict[str, Any]:
        """Give the settings that are not as by default; by these `of` makes them again."""
        default = asdict(Preprocessing())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    def layout(self, layout: Layout) -> Layout:
        """Return the layout of the clips that are made of raw ones in `layout`.

        Raises InputError where clips are to be turned by shoulders and it has none.
        """
        layout = layout if self.to_layout is None else find_layout(self.to_layout)
        if self.align != "none" and layout.shoulders is None:
            raise InputError(
                f"align: expected a layout with shoulders to turn clips by, found {layout.name!r} without; "
                "say --align none, or add shoulders: [right, left] to the layout"
            )
        return layout


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which clips are for training and which for the test, in place of the format's own splits.

    Args:
        train: Which are training clips: subject=1,3,5 (or another attribute that clips' names say, such as
            view or setup), list=FILE with their names, ratio=0.8 of each class (ratio=0.8,by=subject of the
            subjects) or fold=1/5, each with seed=0; the rest are test clips.
        test: The same for test clips; with both, what is neither is left out.
    """

    train: str | None = None
    test: str | None = None

    def given(self) -> dict[str, str]:
        """Give the rules that there are."""
        rules = {"train": self.train, "test": self.test}
        return {name: rule for name, rule in rules.items() if rule is not None}


@dataclass(frozen=True)
class Preparation:
    """What is chosen for a preparation, whatever the format."""

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    rules: Rules = field(default_factory=Rules)


_IN_FORCE: ContextVar[Preparation | None] = ContextVar("preparation", default=None)


@contextlib.contextmanager
def preparing(preparation: Preparation) -> Iterator[None]:
    """Have every format prepare as chosen until the block ends. Raises InputError for what cannot be.

    Example:
        with preparing(Preparation(Preprocessing(num_bodies=1))): ...
    """
    check(preparation.preprocessing)
    before = _IN_FORCE.set(preparation)
    try:
        yield
    finally:
        _IN_FORCE.reset(before)


def in_force() -> Preparation:
    """Return what is chosen at present."""
    return _IN_FORCE.get() or Preparation()
