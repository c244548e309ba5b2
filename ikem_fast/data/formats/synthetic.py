"""Simulated people, which no file holds: `data.synthetic` generates them."""

from pathlib import Path

from ikem_fast.data import synthetic
from ikem_fast.data.dataset import Dataset
from ikem_fast.data.formats.base import Format
from ikem_fast.data.pipeline import PlannedClip, prepare_clips, to_clips
from ikem_fast.errors import InputError

MOST_CLIPS = 100_000  # of a class: the plan of all is in memory
MOST_FRAMES = 10_000


def prepare_synthetic(out: Path, clips_per_class: int = 60, frames: int = 50, seed: int = 0) -> Dataset:
    """Prepare a procedural dataset: simulated people, no download.

    Args:
        out: folder to write.
        clips_per_class: clips of each action, spread over all subjects.
        frames: how many each clip is resampled to.
        seed: another seed, other people and other clips.
    """
    if not 3 <= clips_per_class <= MOST_CLIPS:
        raise InputError(
            f"clips_per_class: expected 3 (every third goes to test) … {MOST_CLIPS}, found {clips_per_class}"
        )
    if not 1 <= frames <= MOST_FRAMES:
        raise InputError(f"frames: expected 1 … {MOST_FRAMES}, found {frames}")
    if seed < 0:
        raise InputError(f"seed: expected an integer ≥ 0, found {seed}")
    clips = synthetic.plan_clips(clips_per_class)
    layout = "ntu-rgb+d"
    return prepare_clips(
        [PlannedClip(clip.name, clip.split, clip.label, subject=str(clip.subject + 1)) for clip in clips],
        lambda start: to_clips(
            (synthetic.generate_clip(clip, seed) for clip in clips[start:]), layout, frames
        ),
        num_frames=frames,
        out=out,
        name="synthetic",
        layout=layout,
        classes=list(synthetic.ACTIONS),
        num_bodies=2,
        prepared={"from": "synthetic", "clips_per_class": clips_per_class, "seed": seed,
                  "generator": synthetic.VERSION},
    )  # fmt: skip


SYNTHETIC = Format(
    name="synthetic",
    summary="Prepare simulated people; no download.",
    example="ikem-fast prepare synthetic --out data/synthetic",
    prepare=prepare_synthetic,
    detect=lambda path: "",
)
