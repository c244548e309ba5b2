"""From .skeleton files to prepared clips: core time a clip, here and in the published formulation.

usage: python -m benchmarks.bench_prepare SKELETONS [--clips 2000] [--publish] [--out benchmarks/results]

SKELETONS is a folder of .skeleton files; they are read over and over until --clips have been. All sides run
in this process, in turn, pass by pass, and what counts is the processor's time: the ratios hold on a busy
machine, too. Agreement is checked first, on files with one body, where all choose the same. Then
`ikem-fast prepare ntu` itself prepares as many files, links to the given ones, on one core: its processor
time from start to end, and its peak memory. The figures go to prepare.json.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import ROOT, machine, write_json
from benchmarks.publish import publish, where
from ikem_fast import ops
from ikem_fast.data import preprocess_clips, read_skeleton
from ikem_fast.data import skeletons as skeleton_text
from ikem_fast.data.pipeline import CHUNK

NAME = "preparation"  # of the block in docs/performance.md

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
    return read_skeleton(path).clip()


def published_all(raws):
    return [published_preprocess(raw) for raw in raws]


def reference_all(raws):
    lengths = torch.tensor([raw.shape[1] for raw in raws])
    packed = torch.from_numpy(np.concatenate(raws, axis=1))
    return ops.preprocess_clips(packed, lengths, impl="reference")[0]


def fused_all(raws):
    return [clip for clip, _ in preprocess_clips(raws)]


SIDES = {
    "published": (published_read, published_all),
    "reference": (fast_read, reference_all),
    "ikem_fast": (fast_read, fused_all),
}
LABELS = {
    "published": "published reader and preprocessing, in our words",
    "reference": 'our reader; preprocessing by `impl="reference"`, batched torch',
    "ikem_fast": "our reader; preprocessing by the compiled pass",
}


def check_agreement(paths):
    """All sides give the same clip wherever there is one body to choose."""
    paths = [path for path in paths if len(np.unique(read_skeleton(path).tracking_id)) == 1]
    theirs, *ours = (preprocess([read(path) for path in paths]) for read, preprocess in SIDES.values())
    for clips in ours:
        np.testing.assert_allclose(np.stack(list(clips)), np.stack(theirs), atol=1e-4)
    return len(paths)


def measure(paths, clips):
    """Core seconds spent by each side in reading and in preprocessing, and how many clips that were."""
    seconds = {side: np.zeros(2) for side in SIDES}
    passes = -(-clips // len(paths))
    for _ in range(passes):
        for side, (read, preprocess) in SIDES.items():
            for first in range(0, len(paths), CHUNK):
                start = time.process_time()
                raws = [read(path) for path in paths[first : first + CHUNK]]
                middle = time.process_time()
                preprocess(raws)
                seconds[side] += middle - start, time.process_time() - middle
    return seconds, passes * len(paths)


# Runs the command line and says last what the process took: core seconds, and the highest point of its memory
# (which ru_maxrss is not: that is inherited from the parent).
COMMAND = """
import sys, time
from ikem_fast.cli import main
code = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(time.process_time(), peak.split()[1], file=sys.stderr)
sys.exit(code)
"""


def run_command(paths, copies):
    """Prepare links to the files, each so often: (clips, core seconds, peak memory in KB)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "skeletons"
        folder.mkdir()
        for place, path in enumerate(path for _ in range(copies) for path in paths):
            pair, replication = divmod(place, 2)
            person, subject = divmod(pair, 106)
            camera, setup = divmod(person, 32)
            name = (
                f"S{setup + 1:03d}C{camera + 1:03d}P{subject + 1:03d}R{replication + 1:03d}{path.stem[-4:]}"
            )
            (folder / f"{name}.skeleton").symlink_to(path.resolve())
        command = [sys.executable, "-c", COMMAND, "prepare", "ntu", "--skeletons", folder, "--workers", "1"]
        command += ["--protocol", "ntu120-xsub", "--out", Path(scratch) / "prepared"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    seconds, peak = done.stderr.split()[-2:]
    return copies * len(paths), float(seconds), int(peak)


def measure_command(paths, clips):
    """Core milliseconds a clip of the whole command on one core beyond its start, and its peak memory."""
    few, start, _ = run_command(paths, 1)
    many, seconds, peak = run_command(paths, -(-clips // len(paths)))
    each = (seconds - start) / (many - few)
    return {
        "clips": many,
        "milliseconds_a_clip": round(1e3 * each, 3),
        "start_milliseconds": round(1e3 * (start - few * each)),
        "peak_kb": peak,
    }


def table(result):
    """The figures as lines of Markdown."""
    spent = result["milliseconds_a_clip"]
    published = sum(spent["published"])
    lines = [
        where(result["machine"])
        + f" {result['files']} files repeated to {result['clips']}, {result['reader']}"
        " reader, processor time a clip:",
        "",
        "| way | reading, ms | preprocessing, ms | both, ms | ratio |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for side, label in LABELS.items():
        reading, preprocessing = spent[side]
        ratio = published / (reading + preprocessing)
        lines.append(
            f"| {label} | {reading:.3f} | {preprocessing:.3f} | {reading + preprocessing:.3f} | "
            f"{f'{ratio:.1f}×' if side != 'published' else 1} |"
        )
    command = result["command"]
    lines.append(
        f"| `ikem-fast prepare ntu --workers 1`, all of it but its start | | | "
        f"{command['milliseconds_a_clip']:.3f} | {published / command['milliseconds_a_clip']:.1f}× |"
    )
    return [
        *lines,
        "",
        f"The command, on {command['clips']} files: {command['start_milliseconds']} ms to start, "
        f"at most {command['peak_kb'] / 1024:.0f} MB of memory.",
    ]


def measure_all(skeletons, clips, out):
    paths = [path for path in sorted(skeletons.glob("*.skeleton")) if len(read_skeleton(path).frame)]
    if not paths:
        raise SystemExit(f"{skeletons}: expected .skeleton files with a body, found none")
    torch.set_num_threads(1)
    print(f"{check_agreement(paths)} of {len(paths)} files have one body, and all sides agree on them")
    surroundings = machine("cpu")
    seconds, read = measure(paths, clips)
    result = {
        "machine": surroundings,
        "clips": read,
        "files": len(paths),
        "reader": "C++" if skeleton_text._skeleton_io else "Python",
        "milliseconds_a_clip": {s: (1e3 * spent / read).round(3).tolist() for s, spent in seconds.items()},
        "command": measure_command(paths, clips),
    }
    write_json(out / "prepare.json", result)
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("skeletons", type=Path)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    parser.add_argument("--publish", action="store_true", help="put the figures into docs/performance.md")
    args = parser.parse_args()
    result = measure_all(args.skeletons, args.clips, args.out)
    print("\n".join(table(result)))
    if args.publish:
        publish(NAME, table(result))


if __name__ == "__main__":
    main()
