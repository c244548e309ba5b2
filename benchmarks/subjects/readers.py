"""Readers: clips a second and memory, beside what a format's own code does to have its clips.

Every way ends with each clip as an array of its own. The files are made here, of random people, in the form
and the sizes that the datasets have. Both ways run in this process, in turn, and what counts is the
processor's time; memory is that of a process of each way's own.
"""

import ctypes
import json
import os
import pickle
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import run as runner
from benchmarks import show
from benchmarks.published import preparation as published
from benchmarks.subject import Subject
from ikem_fast.data import FORMATS

CLIPS = 400  # of an array or a pickle
FILES = 20  # of a clip each
FRAMES = 80
EVEN = 0.95  # of the usual speed, from which on a difference is noise
REST = "277.4 191.8 1036.2 519.2 -0.2 0.1 0.9 -0.1 2"  # what NTU RGB+D has behind the coordinates of a joint


def people(rng, joints=25, bodies=2, frames=FRAMES):
    return rng.normal(size=(3, frames, joints, bodies)).astype(np.float32)


def padded_arrays(folder, rng):
    """AGCN's: (N, 3, 300, 25, 2) and labels."""
    array = np.zeros((CLIPS, 3, 300, 25, 2), np.float32)
    array[:, :, :FRAMES] = people(rng)
    np.save(folder / "train_data_joint.npy", array)
    np.save(folder / "train_num_frame.npy", np.full(CLIPS, FRAMES))
    names = ([f"clip{i}" for i in range(CLIPS)], [0] * CLIPS)
    (folder / "train_label.pkl").write_bytes(pickle.dumps(names))
    return [folder]


def read_padded(folder):
    array = np.load(folder / "train_data_joint.npy")
    counts = np.load(folder / "train_num_frame.npy")
    return [np.array(clip[:, :count]) for clip, count in zip(array, counts, strict=True)]


def archive(folder, rng):
    """CTR-GCN's: (N, 300, 150), one-hot labels."""
    rows = np.zeros((CLIPS, 300, 150), np.float32)
    rows[:, :FRAMES] = people(rng).transpose(1, 3, 2, 0).reshape(FRAMES, 150)
    entries = {f"x_{split}": rows[: CLIPS // 2] for split in ("train", "test")}
    entries |= {f"y_{split}": np.eye(60)[np.zeros(CLIPS // 2, int)] for split in ("train", "test")}
    np.savez(folder / "CS.npz", **entries)
    return [folder / "CS.npz"]


def read_archive(path):
    """Frames are counted, as its feeder does it: nothing else says how many there are."""
    with np.load(path) as packed:
        return [
            np.array(row[: np.sum(row.sum(1) != 0)].reshape(-1, 2, 25, 3).transpose(3, 0, 2, 1))
            for split in ("train", "test")
            for row in packed[f"x_{split}"]
        ]


def annotations(folder, rng):
    """PYSKL's: a pickle of annotations, of float16 and protocol 2, as its tools write NTU RGB+D."""
    made = []
    for index in range(CLIPS):
        points = people(rng, bodies=1 + index % 2).transpose(3, 1, 2, 0).astype(np.float16)
        made.append({"frame_dir": f"clip{index}", "label": 0, "keypoint": points, "total_frames": FRAMES})
    names = [one["frame_dir"] for one in made]
    content = {"split": {"xsub_train": names, "xsub_val": []}, "annotations": made}
    (folder / "annotations.pkl").write_bytes(pickle.dumps(content, protocol=2))
    return [folder / "annotations.pkl"]


def read_annotations(path):
    with path.open("rb") as file:
        content = pickle.load(file)
    return [one["keypoint"].astype(np.float32).transpose(3, 1, 2, 0) for one in content["annotations"]]


def packed(folder, rng):
    """The packed form."""
    x = np.concatenate([people(rng, 20, 1)[..., 0].transpose(1, 2, 0)] * CLIPS)
    np.savez(folder / "clips.npz", x=x, len=np.full(CLIPS, FRAMES), y=np.zeros(CLIPS, int))
    return [folder / "clips.npz"]


def read_packed(path):
    with np.load(path) as content:
        parts = np.split(content["x"], np.cumsum(content["len"])[:-1])
    return [np.array(part.transpose(2, 0, 1)) for part in parts]


def objects(folder, rng):
    """NW-UCLA's: JSON, a file a clip."""
    points = people(rng, 20, 1)[..., 0].transpose(1, 2, 0)
    paths = [folder / f"a01_s01_e{index:02d}_v01.json" for index in range(FILES)]
    for path in paths:
        path.write_text(json.dumps({"skeletons": points.round(4).tolist()}))
    return paths


def read_objects(path):
    return [np.array(json.loads(path.read_text())["skeletons"]).transpose(2, 0, 1)]


def matlab(folder, rng):
    """UTD-MHAD's: MATLAB, a file a clip."""
    from scipy.io import savemat

    paths = [folder / f"a1_s1_t{index + 1}_skeleton.mat" for index in range(FILES)]
    for path in paths:
        savemat(path, {"d_skel": people(rng, 20, 1)[..., 0].transpose(2, 0, 1).astype(np.float64)})
    return paths


def read_matlab(path):
    from scipy.io import loadmat

    return [loadmat(path)["d_skel"].transpose(1, 2, 0)]


def texts(folder, rng):
    """MSR-Action3D's: a line a joint, a file a clip."""
    points = people(rng, 20, 1)[..., 0].transpose(1, 2, 0).reshape(-1, 3)
    paths = [folder / f"a01_s01_e{index:02d}_skeleton3D.txt" for index in range(FILES)]
    for path in paths:
        np.savetxt(path, np.hstack([points, np.ones((len(points), 1))]), "%.5f")
    return paths


def read_text(path):
    return [np.loadtxt(path)[:, :3].reshape(-1, 20, 3).transpose(2, 0, 1)]


def skeletons(folder, rng):
    """NTU RGB+D's: a line a joint of each body of each frame."""
    raw, lines = people(rng), [str(FRAMES)]
    for frame in raw.transpose(1, 3, 2, 0):
        lines.append("2")
        for number, body in enumerate(frame):
            lines += [f"{number} 0 1 1 1 1 0 0.02 -0.05 2", "25"]
            lines += [
                f"{x:.6f} {y:.6f} {z:.6f} 277.4 191.8 1036.2 519.2 -0.2 0.1 0.9 -0.1 2" for x, y, z in body
            ]
    paths = [folder / f"S001C001P001R001A{index + 1:03d}.skeleton" for index in range(FILES)]
    for path in paths:
        path.write_text("\n".join(lines))
    return paths


CASES = {
    "agcn": (padded_arrays, read_padded, "`np.load`"),
    "ctrgcn": (archive, read_archive, "`np.load`"),
    "pyskl": (annotations, read_annotations, "`pickle.load`"),
    "npz": (packed, read_packed, "`np.load`"),
    "nw-ucla": (objects, read_objects, "`json.loads`"),
    "utd-mhad": (matlab, read_matlab, "`scipy.io.loadmat`"),
    "msr-action3d": (texts, read_text, "`np.loadtxt`"),
    "ntu": (skeletons, lambda path: [published.read(path)], "as published, in our words"),
}  # format → (makes its files, the usual way to read one, what that is called)


def read_all(read, paths):
    """Read every clip, and keep none; returns how many there were."""
    return sum(1 for path in paths for _ in read(path))


def agree(ours, theirs, path):
    """Raise where the two ways give other coordinates."""
    for one, other in zip(ours(path), theirs(path), strict=True):
        np.testing.assert_allclose(one.reshape(-1), np.asarray(other).reshape(-1), atol=1e-5)


def growth(call):
    """Megabytes by which memory grows at most while a process of its own does the call."""
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            ctypes.CDLL(None).malloc_trim(0)  # what is free already would be taken without growing
            runner.forget_peak()
            before = runner.resident("VmRSS")
            call()
            os.write(sender, str((runner.resident("VmHWM") - before) / 1e6).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(sender)
    with os.fdopen(receiver) as said:
        return float(said.read())


def measure(run, rounds=5):
    run.note(threads=1)
    rng = np.random.default_rng(0)
    for name, (make, usual, _) in CASES.items():
        with tempfile.TemporaryDirectory() as scratch:
            paths, ours = make(Path(scratch), rng), FORMATS[name].read
            if name != "ntu":  # of which the published reader takes other bodies
                agree(ours, usual, paths[0])
            ways = {
                "ours": lambda read=ours, paths=paths: read_all(read, paths),
                "usual": lambda read=usual, paths=paths: read_all(read, paths),
            }
            clips = ways["ours"]()
            peaks = {way: growth(call) for way, call in ways.items()}
            more = lambda way, peaks=peaks: {"peak_mb": peaks[way]}  # noqa: E731
            run.compare(ways, rounds, clock=time.process_time, more=more, format=name, clips=clips)


def compared(results):
    """(format, our row, the usual one) of every format that was measured."""
    for name in CASES:
        rows = {row["way"]: row for row in show.pick(results.rows, format=name)}
        if rows:
            yield name, rows["ours"], rows["usual"]


def table(results):
    rows = []
    for name, ours, usual in compared(results):
        speeds = [row["clips"] / show.median(row) for row in (ours, usual)]
        memory = [show.written(max(row["peak_mb"], 0.1), 2) for row in (ours, usual)]
        speeds_shown = [show.written(speed) for speed in speeds]
        rows.append((f"`{name}`", *speeds_shown, f"{speeds[0] / speeds[1]:.2f}×", CASES[name][2], *memory))
    columns = ("format", "clips/s|", "usual, clips/s|", "ratio|", "the usual way", "MB|", "usual, MB|")
    return show.table(columns, rows)


def headline(results):
    ratios = {name: show.median(usual) / show.median(ours) for name, ours, usual in compared(results)}
    slower = [f"`{name}` ({ratio:.2f} of its speed)" for name, ratio in ratios.items() if ratio < EVEN]
    but = f", but for {' and '.join(slower)}" if slower else ""
    return f"As fast as the usual way of each format or faster{but}."


SUBJECT = Subject(
    devices=("cpu",),
    about="""Clips read one after another on one core, each format's files as its dataset has them (400 clips
of 80 frames in arrays and pickles, 20 files otherwise), beside what code of that format does: processor
time, each way in turn. MB is how far memory grows: rows, frames and arrays stay
in the file until they are asked for. The usual way ends with all clips in memory.""",
    measure=measure,
    show=table,
    headline=headline,
)
