"""From .skeleton files to prepared clips: core time a clip, here and in the published formulation.

usage: python -m benchmarks.bench_prepare SKELETONS [--clips 2000]

SKELETONS is a folder of .skeleton files; they are read over and over until --clips have been. Both sides run
in this process, in turn, pass by pass, and what counts is the processor's time: the ratio holds on a busy
machine, too. Agreement is checked first, on files with one body, where both choose the same. The figures go
to benchmarks/results/prepare.json.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.harness import ROOT, machine, write_json
from ikem_fast.data import preprocess_clip
from ikem_fast.data.formats import ntu

RESULTS = ROOT / "benchmarks" / "results" / "prepare.json"

# The columns of a line, by which the published reader makes its dictionaries.
BODY = tuple("id clipped left_sure left right_sure right restricted lean_x lean_y state".split())  # noqa: SIM905
JOINT = tuple("x y z depth_x depth_y colour_x colour_y w qx qy qz state".split())  # noqa: SIM905


def published_read(path, bodies=2, joints=25):
    """What the published reader computes, in our words: each line into a dictionary, the array from those."""
    with open(path) as file:
        frames = []
        for _ in range(int(file.readline())):
            frame = []
            for _ in range(int(file.readline())):
                body = dict(zip(BODY, map(float, file.readline().split()), strict=True))
                body["joints"] = [
                    dict(zip(JOINT, map(float, file.readline().split()), strict=True))
                    for _ in range(int(file.readline()))
                ]
                frame.append(body)
            frames.append(frame)
    clip = np.zeros((3, len(frames), joints, bodies))
    for t, frame in enumerate(frames):
        for m, body in enumerate(frame[:bodies]):
            for v, joint in enumerate(body["joints"][:joints]):
                clip[:, t, v, m] = joint["x"], joint["y"], joint["z"]
    return clip


def published_preprocess(clip, frames=50):
    """The same for preprocessing: centre, resize as an image, then frame by frame turn and append."""
    valid = int((np.abs(clip[:, :, 0, 0]).sum(axis=0) != 0).sum())
    clip = clip - clip[:, :, 20:21]
    position = ((np.arange(frames) + 0.5) * valid / frames - 0.5).clip(0, valid - 1)
    before = position.astype(int)
    after, weight = np.minimum(before + 1, valid - 1), (position - before)[:, None, None]
    resized = (clip[:, before] * (1 - weight) + clip[:, after] * weight).astype(np.float32)
    for m in range(clip.shape[3]):
        across = resized[:, :, 8, m] - resized[:, :, 4, m]
        angles = np.arccos(across[0] / (np.sqrt(across[0] ** 2 + across[2] ** 2) + 0.0001))
        if across[2].sum() >= 0:
            angles = -angles
        turns = np.zeros((0, 3, 3))
        for angle in angles:
            turn = np.eye(3)
            turn[0, 0] = turn[2, 2] = np.cos(angle)
            turn[0, 2], turn[2, 0] = -np.sin(angle), np.sin(angle)
            turns = np.concatenate((turns, turn[None]))
        turned = np.zeros((0, clip.shape[2], 3))
        for turn, pose in zip(turns, resized[..., m].transpose(1, 2, 0), strict=True):
            turned = np.concatenate((turned, (turn @ pose.T).T[None]))
        resized[..., m] = turned.transpose(2, 0, 1)
    return resized


def fast_read(path):
    return ntu.read_skeleton(path).clip()


SIDES = {"published": (published_read, published_preprocess), "ikem_fast": (fast_read, preprocess_clip)}


def check_agreement(paths):
    """Both sides give the same clip wherever there is one body to choose."""
    checked = 0
    for path in paths:
        if len(np.unique(ntu.read_skeleton(path).tracking_id)) == 1:
            theirs, ours = (preprocess(read(path)) for read, preprocess in SIDES.values())
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
            checked += 1
    return checked


def measure(paths, clips):
    """Core seconds spent by each side in reading and in preprocessing, and how many clips that were."""
    seconds = {side: np.zeros(2) for side in SIDES}
    passes = -(-clips // len(paths))
    for _ in range(passes):
        for side, (read, preprocess) in SIDES.items():
            for path in paths:
                start = time.process_time()
                raw = read(path)
                middle = time.process_time()
                preprocess(raw)
                seconds[side] += middle - start, time.process_time() - middle
    return seconds, passes * len(paths)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("skeletons", type=Path)
    parser.add_argument("--clips", type=int, default=2000)
    args = parser.parse_args()
    paths = [path for path in sorted(args.skeletons.glob("*.skeleton")) if len(ntu.read_skeleton(path).frame)]
    if not paths:
        parser.error(f"{args.skeletons}: expected .skeleton files with a body, found none")
    print(f"{check_agreement(paths)} of {len(paths)} files have one body, and both sides agree on them")
    seconds, clips = measure(paths, args.clips)
    milliseconds = {side: (1e3 * spent / clips).round(3).tolist() for side, spent in seconds.items()}
    ratio = float(seconds["published"].sum() / seconds["ikem_fast"].sum())
    for side, (reading, preprocessing) in milliseconds.items():
        print(f"{side:10s} {reading:7.3f} ms reading + {preprocessing:6.3f} ms preprocessing a clip")
    reader = "C++" if ntu._skeleton_io else "Python"
    print(f"{ratio:.1f} times as fast on one core ({clips} clips, {reader} reader)")
    figures = {"clips": clips, "files": len(paths), "reader": reader, "ratio": round(ratio, 1),
               "milliseconds_a_clip": milliseconds, "machine": machine("cpu")}  # fmt: skip
    write_json(RESULTS, figures)


if __name__ == "__main__":
    main()
