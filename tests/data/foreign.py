"""Writers of the forms of other codebases, as those make them: small, and from raw clips."""

import pickle
from typing import NamedTuple

import numpy as np

FRAMES = 300  # that padded forms have


class Raw(NamedTuple):
    """A clip to write. coordinates: (3, F, V, M)."""

    name: str
    label: int
    split: str
    coordinates: np.ndarray


def some_clips(count=5, joints=25, bodies=2, seed=0, frames=FRAMES):
    """Clips of a random person each, by names of NTU RGB+D's; the last is a test clip."""
    rng = np.random.default_rng(seed)
    clips = []
    for index in range(count):
        length = int(rng.integers(20, min(frames, 60)))
        raw = rng.normal(size=(3, length, joints, bodies)).astype(np.float32)
        if bodies > 1 and index % 2:
            raw[..., 1:] = 0
        split = "test" if index == count - 1 else "train"
        clips.append(Raw(f"S001C001P{index + 1:03d}R001A{index % 3 + 1:03d}", index % 3, split, raw))
    return clips


def parts(clips):
    """Name of a part of a dataset, as in train_label.pkl → its clips."""
    return {"train": [c for c in clips if c.split == "train"], "val": [c for c in clips if c.split == "test"]}


def padded(clips, frames=FRAMES, again=False):
    """(N, 3, frames, V, M): zero behind the last frame, or beginning anew as AGCN pads."""
    array = np.zeros((len(clips), 3, frames, *clips[0].coordinates.shape[2:]), np.float32)
    for row, clip in zip(array, clips, strict=True):
        raw = clip.coordinates[:, :frames]
        row[:, : raw.shape[1]] = raw
        if again:
            row[:] = np.resize(raw.swapaxes(0, 1), (frames, 3, *raw.shape[2:])).swapaxes(0, 1)
    return array


def write_pickle(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def write_agcn(folder, clips, counts=True, again=False, protocol=4):
    for part, some in parts(clips).items():
        if not some:
            continue
        np.save(folder / f"{part}_data_joint.npy", padded(some, again=again))
        if counts:
            lengths = [min(clip.coordinates.shape[1], FRAMES) for clip in some]
            np.save(folder / f"{part}_num_frame.npy", np.array(lengths))
        names = [f"{clip.name}.skeleton" for clip in some]
        write_pickle(folder / f"{part}_label.pkl", (names, [clip.label for clip in some]), protocol)


def write_crossclr(folder, clips, prepare, counts=True, protocol=4):
    """prepare: from a raw clip to the preprocessed one and its frame count."""
    for part, some in parts(clips).items():
        done = [prepare(clip.coordinates) for clip in some]
        np.save(folder / f"{part}_position.npy", np.stack([clip for clip, _ in done]))
        columns = [[f"{clip.name}.skeleton" for clip in some], [clip.label for clip in some]]
        if counts:
            columns.append([frames for _, frames in done])
        write_pickle(folder / f"{part}_label.pkl", tuple(columns), protocol)


def moved(raw):
    """With joint 1 of the first frame at the origin, as CTR-GCN has it, where there is a body."""
    there = (raw != 0).any(axis=(0, 2))  # (F, M)
    return raw - np.where(there[None, :, None], raw[:, :1, 1:2, :1], 0).astype(raw.dtype)


def write_ctrgcn(path, clips, classes=60, compress=False):
    """Clips as that code moves them."""
    entries = {}
    for split in ("train", "test"):
        some = [clip for clip in clips if clip.split == split]
        rows = np.zeros((len(some), FRAMES, some[0].coordinates[:, 0].size), np.float32)
        for row, clip in zip(rows, some, strict=True):
            raw = moved(clip.coordinates[:, :FRAMES])
            row[: raw.shape[1]] = raw.transpose(1, 3, 2, 0).reshape(raw.shape[1], -1)
        entries |= {f"x_{split}": rows, f"y_{split}": np.eye(classes)[[clip.label for clip in some]]}
    (np.savez_compressed if compress else np.savez)(path, **entries)
    return path


def write_pyskl(path, clips, split=True, protocol=4, dims=3, scores=False, lie=0):
    """Bodies that are empty throughout are left out, as those pickles have it."""
    annotations = []
    for clip in clips:
        points = clip.coordinates.transpose(3, 1, 2, 0)
        points = points[[True, *points[1:].any(axis=(1, 2, 3))]]
        one = {
            "frame_dir": clip.name, "total_frames": points.shape[1] + lie, "label": clip.label,
            "keypoint": points[..., :dims],
        }  # fmt: skip
        annotations.append({**one, "keypoint_score": points[..., 2]} if scores else one)
    names = {part: [clip.name for clip in some] for part, some in parts(clips).items()}
    splits = {f"xsub_{part}": some for part, some in names.items()}
    write_pickle(path, {"split": splits, "annotations": annotations} if split else annotations, protocol)
    return path
