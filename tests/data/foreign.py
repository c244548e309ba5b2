"""Writers of the forms of other codebases, as those make them: small, and from raw clips."""

import json
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


def lines(rows, separator=" ", end="\n"):
    """A text of numbers, exact for float32."""
    return end.join(separator.join(f"{number:.9g}" for number in row) for row in rows) + end


def write_msr(path, raw):
    joints = raw[..., 0].transpose(1, 2, 0).reshape(-1, 3)
    path.write_text(lines(np.hstack([joints, np.ones((len(joints), 1))])))


def write_sbu(folder, raw):
    folder.mkdir(parents=True)
    rows = raw.transpose(1, 3, 2, 0).reshape(raw.shape[1], -1)
    numbers = np.arange(1, len(rows) + 1)[:, None]
    (folder / "skeleton_pos.txt").write_text(lines(np.hstack([numbers, rows]), ",", "\r\n"))


def write_pku(folder, recordings, training, phase="cross-subject"):
    """recordings: name → [(action, raw), …], one behind the other with three frames between."""
    for part in ("PKU_Skeleton_Renew", "Train_Label_PKU_final"):
        (folder / part).mkdir(parents=True)
    for name, clips in recordings.items():
        rows, labels = [], []
        for action, raw in clips:
            rows += [np.zeros((3, raw[:, 0].size))]
            first = sum(map(len, rows))
            rows.append(raw.transpose(1, 3, 2, 0).reshape(raw.shape[1], -1))
            labels.append(f"{action},{first},{first + raw.shape[1]},2")
        (folder / "PKU_Skeleton_Renew" / f"{name}.txt").write_text(lines(np.concatenate(rows)))
        (folder / "Train_Label_PKU_final" / f"{name}.txt").write_text("\r\n".join(labels) + "\r\n")
    others = sorted(set(recordings) - set(training))
    text = f"Training videos: \n{', '.join(training)}, \nValidataion videos: \n{', '.join(others)}"
    (folder / f"{phase}.txt").write_text(text)


def write_uav(path, raw):
    rows = [str(raw.shape[1])]
    for frame in raw.transpose(1, 3, 2, 0):
        people = [person for person in frame if person.any()]
        rows.append(str(len(people)))
        for person in people:
            rows += [
                "0 " * 9 + "1",
                str(len(person)),
                *(f"{x:.9g} {y:.9g} {z:.9g} 0 0" for x, y, z in person),
            ]
    path.write_text("\n".join(rows))


def write_smarthome(path, raw):
    frames = [[{"pose3d": joints.T.reshape(-1).tolist()}] for joints in raw[..., 0].transpose(1, 2, 0)]
    path.write_text(json.dumps({"K": 1, "njts": raw.shape[2], "frames": frames}))


def write_openpose(folder, name, raw, order=lambda frame, people: people):
    """order: the people of a frame as the file has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(raw.transpose(1, 3, 2, 0)):
        people = [{"pose_keypoints_2d": person.reshape(-1).tolist()} for person in frame if person.any()]
        content = json.dumps({"version": 1.3, "people": order(number, people)})
        (folder / f"{name}{number:012d}_keypoints.json").write_text(content)


def write_mediapipe(path, raw, key="pose_world_landmarks"):
    frames = []
    for frame in raw.transpose(1, 3, 2, 0):
        people = [[dict(zip("xyz", joint.tolist(), strict=True)) for joint in person] for person in frame]
        frames.append({key: [person for person, there in zip(people, frame, strict=True) if there.any()]})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"frames": frames}))


def write_coco(path, raw, tracks=True, order=lambda frame, people: people):
    found = []
    for number, frame in enumerate(raw.transpose(1, 3, 2, 0)):
        people = [
            {
                "image_id": f"clip_{number}.jpg",
                "keypoints": person.reshape(-1).tolist(),
                "score": 1,
                "idx": body,
            }
            for body, person in enumerate(frame)
            if person.any()
        ]
        found += order(number, [one if tracks else {**one, "idx": None} for one in people])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found[::-1]))


BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 1 2 3
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT LeftArm
  {
    OFFSET -2 5 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 0 1 0
    }
  }
  JOINT RightArm
  {
    OFFSET 2 5 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    JOINT RightHand
    {
      OFFSET 3 0 0
      CHANNELS 3 Zrotation Xrotation Yrotation
      End Site
      {
        OFFSET 0 1 0
      }
    }
  }
}
MOTION
Frames: %d
Frame Time: 0.025
"""


def write_bvh(path, numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(BVH % len(numbers) + lines(numbers))
