"""Every augmentation over a batch, against the NumPy way: clip by clip, as a loader's worker does.

`python -m pytest --benchmark benchmarks/bench_augment.py`; the groups compare the two ways of each.

usage: python -m benchmarks.bench_augment [--threads N] [--frames 50] [--publish] [--out benchmarks/results]

times them in turn, at every batch of BATCHES, and writes augment-cpu.json.
"""

import argparse
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import harness
from benchmarks.publish import publish, where
from ikem_fast import augment
from ikem_fast.skeleton import get_layout

N, CLIP = 128, (3, 50, 25, 2)
BATCHES = (1, 16, 128, 1024)
NAME = "augmentation"  # of the block in docs/performance.md


def shear(clip, rng):
    matrix = rng.uniform(-0.5, 0.5, (3, 3))
    np.fill_diagonal(matrix, 1)
    return np.dot(clip.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def rotation(clip, rng):
    axis, angle = rng.integers(3), rng.uniform(-math.pi / 6, math.pi / 6)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[j, i], matrix[i, j] = math.sin(angle), -math.sin(angle)
    return np.dot(clip.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def temporal_crop(clip, rng):
    padding = clip.shape[1] // 6
    padded = np.concatenate((clip[:, :padding][:, ::-1], clip, clip[:, -padding:][:, ::-1]), axis=1)
    start = rng.integers(2 * padding + 1)
    return padded[:, start : start + clip.shape[1]]


def flip(clip, rng):
    if rng.random() < 0.5:
        clip = clip[:, :, list(SWAP)] * np.array((-1, 1, 1)).reshape(3, 1, 1, 1)
    return clip


def time_reversal(clip, rng):
    return clip[:, ::-1] if rng.random() < 0.5 else clip


def noise(clip, rng):
    return clip + rng.normal(0, 0.01, clip.shape) * (clip != 0).any((0, 1, 2))


def blur(clip, rng):
    reach = augment.BLUR_TAPS // 2
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / rng.uniform(0.1, 2)) ** 2)
    padded = np.pad(clip, [(0, 0), (reach, reach), (0, 0), (0, 0)], mode="symmetric")
    taps = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=1)
    return taps @ (kernel / kernel.sum())


def crop_resize(clip, rng):
    T = clip.shape[1]
    length = T * rng.uniform(0.5, 1)
    at = rng.uniform(0, T - length) + ((np.arange(T) + 0.5) * length / T - 0.5).clip(0, length - 1)
    before = at.astype(int)
    weight = (at - before)[:, None, None]
    return clip[:, before] * (1 - weight) + clip[:, np.minimum(before + 1, T - 1)] * weight


def joint_mask(clip, rng):
    clip = clip.copy()
    clip[:, :, rng.choice(clip.shape[2], 5, replace=False)] = 0
    return clip


def axis_mask(clip, rng):
    clip = clip.copy()
    clip[rng.integers(3)] = 0
    return clip


def frame_mask(clip, rng):
    clip = clip.copy()
    clip[:, rng.choice(clip.shape[1], 5, replace=False)] = 0
    return clip


def scale(clip, rng):
    return clip * rng.uniform(0.8, 1.2)


SWAP = get_layout("ntu-rgb+d").swap
PER_CLIP = {
    function.__name__: function
    for function in (
        shear, rotation, scale, flip, noise, axis_mask, joint_mask, temporal_crop, crop_resize,
        time_reversal, blur, frame_mask,
    )
}  # fmt: skip


def ways(name, clips=N, frames=CLIP[1]):
    """Name → a call that augments a batch of clips, with parameters that it draws."""
    x = torch.randn(clips, CLIP[0], frames, *CLIP[2:])
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    return {
        "clip by clip": lambda: torch.stack([
            torch.from_numpy(PER_CLIP[name](clip, rng).astype(np.float32)) for clip in x.numpy()
        ]),
        "batched": lambda: getattr(augment, f"random_{name}")(x, generator),
    }  # fmt: skip


@pytest.mark.parametrize("way", ["clip by clip", "batched"])
@pytest.mark.parametrize("name", PER_CLIP)
def test_augmentation_of_128_clips(benchmark, name, way):
    benchmark.group = name
    benchmark(ways(name)[way])


def repeated(run, times):
    def several():
        for _ in range(times):
            run()

    return several


def measure(threads, out, rounds=9, frames=CLIP[1]):
    """Seconds a call of each way, at every batch; short calls are timed a hundred clips at a time."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    result = {"machine": harness.machine("cpu"), "clips": N, "frames": frames, "ways": {}}
    for name in PER_CLIP:
        result["ways"][name] = {}
        for clips in BATCHES:
            times = max(1, 100 // clips)
            runs = {way: repeated(run, times) for way, run in ways(name, clips, frames).items()}
            seconds = harness.in_turn(runs, rounds)
            result["ways"][name][str(clips)] = {
                way: harness.summary([second / times for second in taken]) for way, taken in seconds.items()
            }
    harness.write_json(out / "augment-cpu.json", result)
    return result


def table(result):
    """The figures as lines of Markdown."""
    lines = [
        where(result["machine"]),
        "",
        f"| {N} clips of {result['frames']} frames, drawing included | NumPy clip by clip, ms "
        f"| batched, ms (p10–p90) | ratio at {' / '.join(map(str, BATCHES))} clips |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, batches in result["ways"].items():
        theirs, ours = batches[str(N)]["clip by clip"], batches[str(N)]["batched"]
        low, middle, high = (f"{ours[key] * 1e3:.3g}" for key in ("p10_s", "median_s", "p90_s"))
        ratios = [
            taken["clip by clip"]["median_s"] / taken["batched"]["median_s"] for taken in batches.values()
        ]
        lines.append(
            f"| {name.replace('_', ' ')} | {theirs['median_s'] * 1e3:.3g} | {middle} ({low}–{high}) | "
            f"{' / '.join(f'{ratio:.1f}' for ratio in ratios)}× |"
        )
    return lines


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--frames", type=int, default=CLIP[1])
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/performance.md")
    args = parser.parse_args()
    result = measure(args.threads, args.out, frames=args.frames)
    print("\n".join(table(result)))
    if args.publish:
        publish(NAME, table(result))


if __name__ == "__main__":
    main()
