"""Clips of your own: packed into one .npz, prepared, pretrained on, evaluated. No network, no GPU.

python examples/own_dataset.py [FOLDER]

The clips here are random walks of two kinds, so that there is something to tell apart.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from ikem_fast.cli import main as ikem_fast
from ikem_fast.skeleton import get_layout

LAYOUT = "kinect-v1"  # 20 joints; `register_layout` takes another, see CONTRIBUTING.md


def write_clips(path, clips=24, seed=0):
    """One array of all frames, the length of each clip, its class, and who performed it."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(20, 60, clips)
    labels = np.arange(clips) % 2
    subjects = 1 + np.arange(clips) // 2 % 4
    joints = get_layout(LAYOUT).num_joints
    pose = generator.normal(size=(joints, 3))
    walks = [
        pose + generator.normal(size=(length, joints, 3), scale=0.02 + 0.1 * label).cumsum(0)
        for length, label in zip(lengths, labels, strict=True)
    ]
    np.savez(path, x=np.concatenate(walks).astype(np.float32), len=lengths, y=labels, subject=subjects)


def main(folder=None):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(folder or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        packed, data, run = folder / "clips.npz", folder / "data", folder / "run"
        write_clips(packed)
        tiny = "--model.hidden-channels 4 --model.hidden-dim 32 --model.feature-dim 16 --model.queue-size 48"
        commands = (
            f"prepare npz --source {packed} --layout {LAYOUT} --train subject=1,2,3 --out {data}",
            f"pretrain --data {data} --out {run} --epochs 2 --exchange-from 2 --batch-size 6 {tiny}",
            f"evaluate knn --data {data} --checkpoint {run} --out {run}/knn --k 3",
        )
        for command in commands:
            print(f"$ ikem-fast {command}")
            status = ikem_fast(command.split())
            if status:
                raise SystemExit(status)


if __name__ == "__main__":
    main(*sys.argv[1:])
