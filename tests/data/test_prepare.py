"""`prepare`, dataset by dataset: real files, files as they ship, archives, broken ones, interrupted runs."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from ikem_fast.data import DatasetWriter, open_dataset, pipeline, preprocess_clip, read_skeleton
from ikem_fast.data import skeletons as skeleton_text
from ikem_fast.data.formats import nw_ucla, utd_mhad
from ikem_fast.data.formats.npz import prepare_npz
from ikem_fast.data.formats.ntu import prepare_ntu
from ikem_fast.data.formats.nw_ucla import prepare_nw_ucla
from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.data.formats.utd_mhad import prepare_utd_mhad
from ikem_fast.errors import InputError

BODILESS = [("S006C002P023R001A023", 76), ("S008C003P007R001A023", 56)]


@pytest.fixture
def skeletons(shared):
    return shared / "data" / "ntu_skeletons"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_ntu(skeletons, tmp_path, capsys):
    dataset = prepare_ntu(tmp_path / "out", skeletons, "ntu60-xsub")
    train, test = dataset["train"], dataset["test"]
    assert (len(train), len(test), len(dataset.classes)) == (24, 11, 60)
    assert (dataset.layout, dataset.num_frames, dataset.num_joints, dataset.num_bodies) == (
        "ntu-rgb+d",
        50,
        25,
        2,
    )
    expected = tuple(
        (name, f"expected a body, found none in any of {frames} frames") for name, frames in BODILESS
    )
    assert dataset.skipped == expected
    printed = capsys.readouterr().out
    assert "24 train, 11 test clips of 60 classes" in printed
    assert all(f"  {name}: expected a body" in printed for name, _ in BODILESS)
    for split in (train, test):
        assert sorted(split.names) == list(split.names)
        for clip, frames, label, name in zip(
            split.clips, split.frames, split.labels, split.names, strict=True
        ):
            skeletons_of_file = read_skeleton(skeletons / f"{name}.skeleton")
            np.testing.assert_array_equal(clip, preprocess_clip(skeletons_of_file.clip()))
            assert frames == skeletons_of_file.num_frames and label == int(name[-3:]) - 1
    assert {int(name[9:12]) for name in train.names} == {1, 4, 8, 13, 15, 16, 19, 25, 27}


def test_ntu_in_an_archive(skeletons, tmp_path):
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(skeletons.iterdir(), reverse=True):
            archive.write(path, f"nturgb+d_skeletons/{path.name}")
    whole = prepare_ntu(tmp_path / "a", skeletons, "ntu60-xview")
    archived = prepare_ntu(tmp_path / "b", tmp_path / "all.zip", "ntu60-xview")
    assert contents(whole.folder) == contents(archived.folder)


def test_skip_list(skeletons, shared, tmp_path, capsys):
    listed = shared / "data" / "ntu60_missing_skeletons.txt"
    dataset = prepare_ntu(tmp_path / "out", skeletons, "ntu120-xset", skip_list=listed)
    assert (len(dataset["train"]), len(dataset["test"]), len(dataset.classes)) == (9, 26, 120)
    assert dataset.skipped == tuple((name, "in the skip list") for name, _ in BODILESS)
    assert "left out as listed: 2" in capsys.readouterr().out


def test_bodies_in_file_order(skeletons, tmp_path):
    by_motion = prepare_ntu(tmp_path / "a", skeletons, "ntu60-xsub")["train"]
    in_order = prepare_ntu(tmp_path / "b", skeletons, "ntu60-xsub", bodies="file-order")["train"]
    differ = [
        name
        for name, a, b in zip(by_motion.names, by_motion.clips, in_order.clips, strict=True)
        if (a != b).any()
    ]
    expected = []
    for name in by_motion.names:
        read = read_skeleton(skeletons / f"{name}.skeleton")
        if (read.clip() != read.clip("file-order")).any():
            expected.append(name)
    assert differ == expected != []


def link(skeletons, folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for new, old in names.items():
        (folder / f"{new}.skeleton").symlink_to(skeletons / f"{old}.skeleton")


def test_nothing_is_fatal_and_everything_is_named(skeletons, tmp_path, capsys):
    good = "S001C001P001R001A001"
    link(skeletons, tmp_path / "in", {good: good, "S001C001P001R001A061": good, "notes": good})
    link(skeletons, tmp_path / "in" / "again", {good: good})
    whole = (skeletons / f"{good}.skeleton").read_bytes()
    (tmp_path / "in" / "S001C001P001R001A002.skeleton").write_bytes(whole[:100_000])
    (tmp_path / "in" / "S001C001P001R001A003.skeleton").write_bytes(b"")
    (tmp_path / "in" / "S001C001P001R001A004.skeleton").write_bytes(b"1\n1\n" + b"\xff" * 50)
    (tmp_path / "in" / "S001C001P001R001A005.skeleton").symlink_to(tmp_path / "nowhere")
    with open(tmp_path / "in" / "S001C001P001R001A006.skeleton", "wb") as file:
        file.truncate(1 << 30)
    os.mkfifo(tmp_path / "in" / "S001C001P001R001A007.skeleton")
    for name in ("S001C001P001R001A000", "S001C001P001R001A121"):
        link(skeletons, tmp_path / "in", {name: good})
    with pytest.raises(InputError, match="at least 50% of the clips to be usable, found 1 of 11"):
        prepare_ntu(tmp_path / "out", tmp_path / "in", "ntu60-xsub")
    dataset = open_dataset(tmp_path / "out")
    assert dataset["train"].names.tolist() == [good]
    printed = capsys.readouterr()
    assert "10 of 11 clips were left out, such as " in printed.err and "and 7 more" in printed.err
    reasons = {name.removeprefix(str(tmp_path)): reason for name, reason in dataset.skipped}
    assert [reasons[f"S001C001P001R001A00{i}"].split(", found")[0] for i in (2, 3, 4)] == [
        "line 1110: expected 12 finite numbers of a joint",
        "line 1: expected a frame count from 0 to 65536",
        "line 3: expected 10 numbers of a body",
    ]
    assert "cannot be read" in reasons["S001C001P001R001A005"]
    assert "expected at most 67108864 bytes" in reasons["S001C001P001R001A006"]
    assert f"another file is called {good}" in reasons[f"/in/again/{good}.skeleton"]
    assert "expected a name such as" in reasons["/in/notes.skeleton"]
    assert "expected a regular file" in reasons["S001C001P001R001A007"]
    for action in ("000", "121"):
        assert "actions 1 … 120" in reasons[f"/in/S001C001P001R001A{action}.skeleton"]
    assert len(reasons) == 10, "A061 is not of NTU-60, and no more than that"


def test_names_that_do_not_print(skeletons, tmp_path, capsys):
    """They are escaped, on the terminal and in the description, and take no room in the arrays."""
    link(skeletons, tmp_path / "in", {"S001C001P001R001A001": "S001C001P001R001A001"})
    with zipfile.ZipFile(tmp_path / "in" / "odd.zip", "w") as archive:
        archive.writestr("\x1b[31mred\n" + "long" * 1000 + ".skeleton", b"")
    (tmp_path / "in" / os.fsdecode(b"\xff.skeleton")).write_bytes(b"")
    with pytest.raises(InputError, match="found 1 of 3"):
        prepare_ntu(tmp_path / "out", tmp_path / "in", "ntu60-xsub")
    dataset = open_dataset(tmp_path / "out")
    assert dataset["train"].names.dtype == "U20"
    names = [name for name, _ in dataset.skipped]
    assert len(names) == 2 and all(name.isprintable() for name in names)
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err


def test_nothing_to_prepare(skeletons, tmp_path):
    with pytest.raises(InputError, match="found nothing there"):
        prepare_ntu(tmp_path / "out", tmp_path / "missing", "ntu60-xsub")
    link(skeletons, tmp_path / "in", {"S001C001P001R001A061": "S001C001P001R001A001"})
    with pytest.raises(InputError, match="expected files of actions A001 … A060, found none"):
        prepare_ntu(tmp_path / "out", tmp_path / "in", "ntu60-xsub")
    with pytest.raises(InputError, match="workers: expected at least 1, found 0"):
        prepare_ntu(tmp_path / "out", skeletons, "ntu60-xsub", workers=0)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_worker_processes_change_nothing(skeletons, tmp_path, monkeypatch):
    one = prepare_ntu(tmp_path / "one", skeletons, "ntu60-xsub", workers=1)
    monkeypatch.setattr(pipeline, "CHUNK", 5)
    two = prepare_ntu(tmp_path / "two", skeletons, "ntu60-xsub", workers=2)
    assert contents(one.folder) == contents(two.folder)


def test_interrupted_with_workers(skeletons, tmp_path, monkeypatch):
    whole = prepare_ntu(tmp_path / "whole", skeletons, "ntu60-xsub")
    monkeypatch.setattr(pipeline, "CHUNK", 5)

    def interrupted(writer, split, *clip):
        if writer.done == 20:
            raise KeyboardInterrupt
        add(writer, split, *clip)

    add = DatasetWriter.add
    monkeypatch.setattr(DatasetWriter, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare_ntu(tmp_path / "out", skeletons, "ntu60-xsub", workers=2)
    assert not multiprocessing.active_children()
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == ["out.partial"]
    monkeypatch.undo()
    prepare_ntu(tmp_path / "out", skeletons, "ntu60-xsub")
    assert contents(tmp_path / "out") == contents(whole.folder)


KILLED = """
import os, sys
from pathlib import Path
from ikem_fast.data import writer as module
from ikem_fast.data.formats.synthetic import prepare_synthetic
module.CHECKPOINT_EVERY = 10
add = module.DatasetWriter.add
def die(writer, *clip):
    add(writer, *clip)
    if writer.done == 25:
        os._exit(9)
module.DatasetWriter.add = die
prepare_synthetic(Path(sys.argv[1]), clips_per_class=3)
"""


def test_killed(tmp_path):
    """A process that ends at once, without a chance to tidy up."""
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "out")], cwd=root, check=False)
    assert run.returncode == 9 and not (tmp_path / "out").exists()
    assert json.loads((tmp_path / "out.partial" / "progress.json").read_text())["done"] == 20
    prepare_synthetic(tmp_path / "out", clips_per_class=3)
    prepare_synthetic(tmp_path / "whole", clips_per_class=3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def kill_workers(*_):
    for child in multiprocessing.active_children():
        child.kill()


def test_a_worker_that_dies_is_told_of(skeletons, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CHUNK", 5)
    monkeypatch.setattr(DatasetWriter, "add", kill_workers)
    with pytest.raises(InputError, match=r"a worker process died .* start the command again"):
        prepare_ntu(tmp_path / "out", skeletons, "ntu60-xsub", workers=2)


@pytest.mark.parametrize(
    ("name", "layout", "train", "counts"),
    [
        ("utd_mhad", "utd-mhad", "subject=1,3,5,7", (431, 430, 27, 20, 1)),
        ("nw_ucla", "kinect-v1", "view=1,2", (1020, 464, 10, 20, 1)),
        ("sbu", "sbu", "subject=s01s02, s03s04, s05s02, s06s04", (55, 227, 8, 15, 2)),
    ],
)
def test_npz(shared, tmp_path, name, layout, train, counts):
    path = shared / "data" / f"{name}.npz"
    dataset = prepare_npz(tmp_path / "out", path, layout, train)
    found = (
        len(dataset["train"]),
        len(dataset["test"]),
        len(dataset.classes),
        dataset.num_joints,
        dataset.num_bodies,
    )
    assert found == counts and dataset.skipped == () and dataset.name == name
    packed = np.load(path)
    index = int(dataset["test"].names[-1].rsplit("-", 1)[1])
    start = packed["len"][:index].sum()
    raw = packed["x"][start : start + packed["len"][index]].reshape(
        -1, *dataset["test"].clips.shape[3:4], 3, counts[4]
    )
    expected = preprocess_clip(raw.transpose(2, 0, 1, 3), layout=layout)
    np.testing.assert_array_equal(dataset["test"].clips[-1], expected)
    assert dataset["test"].labels[-1] == packed["y"][index]


def test_npz_settings(tmp_path):
    lengths = np.array([3, 2])
    np.savez(
        tmp_path / "a.npz", x=np.ones((5, 15, 3), np.float32), len=lengths, y=lengths, view=np.array([1, 2])
    )
    wrong = {
        (
            "sbu",
            "views=1",
        ): "train: expected attribute=value,value,… with an attribute among view, found 'views=1'",
        ("sbu", "view"): "train: expected attribute=value",
        ("sbu", "view="): "train: expected attribute=value",
        ("sbu", "view=1,3"): r"train: expected values of 'view' that are in .*a\.npz \(1, 2\), found 3",
        ("ntu-rgb+d", "view=1"): "expected 25 joints for layout ntu-rgb\\+d, found 15",
        ("octopus", "view=1"): "layout: expected one of",
    }
    for (layout, train), message in wrong.items():
        with pytest.raises(InputError, match=message):
            prepare_npz(tmp_path / "out", tmp_path / "a.npz", layout, train)
    np.savez(
        tmp_path / "b.npz", x=np.ones((5, 15, 3)), len=lengths, y=lengths, view=np.array([b"\xff", b"a"])
    )
    with pytest.raises(InputError, match=r"train: expected text or numbers in 'view' of .*b\.npz"):
        prepare_npz(tmp_path / "out", tmp_path / "b.npz", "sbu", "view=a")
    dataset = prepare_npz(tmp_path / "out", tmp_path / "a.npz", "sbu", "view=1", name="ones")
    assert (dataset.name, dataset["train"].names.tolist()) == ("ones", ["ones-0"])


def test_npz_without_a_body(tmp_path):
    x = np.ones((5, 15, 3), np.float32)
    x[3:] = 0
    x[1, 3] = np.nan
    np.savez(tmp_path / "a.npz", x=x, len=np.array([1, 2, 2]), y=np.zeros(3, int), view=np.ones(3, int))
    with pytest.raises(
        InputError, match=r"out: expected at least 50% of the clips to be usable, found 1 of 3"
    ):
        prepare_npz(tmp_path / "out", tmp_path / "a.npz", "sbu", "view=1")
    dataset = open_dataset(tmp_path / "out")
    assert [name for name, _ in dataset.skipped] == ["a-1", "a-2"]
    assert "NaN" in dataset.skipped[0][1] and "expected a body" in dataset.skipped[1][1]


def test_utd_mhad(tmp_path):
    rng = np.random.default_rng(0)
    clips = {
        f"a{a}_s{s}_t1_skeleton": rng.normal(size=(20, 3, 41 + s)) for a, s in ((1, 1), (27, 2), (10, 7))
    }
    (tmp_path / "Skeleton").mkdir()
    for name, joints in clips.items():
        savemat(tmp_path / "Skeleton" / f"{name}.mat", {"d_skel": joints}, do_compression="27" in name)
    savemat(tmp_path / "Skeleton" / "a2_s1_t1_skeleton.mat", {"other": 1})
    savemat(tmp_path / "Skeleton" / "a3_s1_t1_skeleton.mat", {"d_skel": np.zeros((19, 3, 9))})
    (tmp_path / "Skeleton" / "a4_s1_t1_skeleton.mat").write_bytes(b"not MATLAB")
    whole = (tmp_path / "Skeleton" / "a1_s1_t1_skeleton.mat").read_bytes()
    (tmp_path / "Skeleton" / "a5_s1_t1_skeleton.mat").write_bytes(whole[:3000])
    savemat(tmp_path / "Skeleton" / "a28_s1_t1_skeleton.mat", {"d_skel": clips["a1_s1_t1_skeleton"]})
    with pytest.raises(InputError, match="found 3 of 8"):
        prepare_utd_mhad(tmp_path / "out", tmp_path)
    dataset = open_dataset(tmp_path / "out")
    assert dataset["train"].names.tolist() == ["a10_s7_t1_skeleton", "a1_s1_t1_skeleton"]
    assert dataset["test"].names.tolist() == ["a27_s2_t1_skeleton"]
    assert dataset["train"].labels.tolist() == [9, 0] and dataset["test"].labels.tolist() == [26]
    assert dataset["train"].frames.tolist() == [48, 42]
    raw = clips["a27_s2_t1_skeleton"].transpose(1, 2, 0)[..., None].astype(np.float32)
    np.testing.assert_array_equal(dataset["test"].clips[0], preprocess_clip(raw, layout="utd-mhad"))
    assert len(dataset.classes) == len(set(dataset.classes)) == 27
    reasons = [reason for _, reason in sorted(dataset.skipped)]
    assert len(reasons) == 5 and "expected a name such as a1_s1_t1_skeleton.mat" in reasons[0]
    assert [reason.partition(", found")[0] for reason in reasons[1:]] == [
        "expected a MATLAB file with a variable 'd_skel'",
        "expected 'd_skel' of shape (20, 3, frames)",
        "expected a MATLAB 5 file, little endian",
        "expected an element of 20224 bytes",
    ]


def test_nw_ucla(tmp_path):
    rng = np.random.default_rng(0)
    clips = {f"a{a:02d}_s01_e00_v{v:02d}": rng.normal(size=(9, 20, 3)) for a, v in ((1, 1), (12, 3), (8, 2))}
    with zipfile.ZipFile(tmp_path / "all_sqe.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, joints in clips.items():
            archive.writestr(
                f"all_sqe/{name}.json", json.dumps({"file_name": name, "skeletons": joints.tolist()})
            )
        broken = ['{"skeletons": 1}', "{}", "[", "[" * 100_000, '{"skeletons": [[1, 2], [3]]}']
        for action, content in enumerate(broken, 1):
            archive.writestr(f"all_sqe/a{action:02d}_s02_e00_v01.json", content)
        archive.writestr("all_sqe/a07_s01_e00_v01.json", "{}")
    with pytest.raises(InputError, match="found 3 of 9"):
        prepare_nw_ucla(tmp_path / "out", tmp_path)
    dataset = open_dataset(tmp_path / "out")
    assert dataset["train"].names.tolist() == ["a01_s01_e00_v01", "a08_s01_e00_v02"]
    assert dataset["train"].labels.tolist() == [0, 6] and dataset["test"].labels.tolist() == [9]
    raw = clips["a12_s01_e00_v03"].transpose(2, 0, 1)[..., None].astype(np.float32)
    np.testing.assert_array_equal(dataset["test"].clips[0], preprocess_clip(raw, layout="kinect-v1"))
    assert len(dataset.skipped) == 6 and len(dataset.classes) == 10
    assert all(reason.startswith("expected ") for _, reason in dataset.skipped)


def test_foreign_files_leave_nothing_behind(shared, tmp_path):
    with pytest.raises(
        InputError, match=r"expected a name such as a01_s01_e00_v01\.json, .* none of the 2 files"
    ):
        prepare_nw_ucla(tmp_path / "out", shared / "faults" / "openpose_json")
    assert not any(tmp_path.iterdir())


def test_no_usable_clip_is_no_dataset(tmp_path):
    (tmp_path / "in").mkdir()
    for view in (1, 3):
        (tmp_path / "in" / f"a01_s01_e00_v0{view}.json").write_text('{"skeletons": []}')
    with pytest.raises(
        InputError, match=r"out: expected usable clips, found none among 2: a01_s01_e00_v01: "
    ):
        prepare_nw_ucla(tmp_path / "out", tmp_path / "in")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("odd", ['"1"', "true", "null", "[1]"])
def test_json_numbers_are_numbers(odd):
    frame = "[" + ",".join(["[1, 2.5, 3]"] * 19) + ",[1, 2, %s]]"
    assert nw_ucla.parse_clip(f'{{"skeletons": [{frame % 3}]}}'.encode()).shape == (3, 1, 20, 1)
    with pytest.raises(ValueError, match="expected 'skeletons' to be numbers"):
        nw_ucla.parse_clip(f'{{"skeletons": [{frame % odd}]}}'.encode())


def packed(path, clips=8, scale=1.0, **changes):
    """Clips of 12 frames, 20 joints."""
    x = scale * np.random.default_rng(0).normal(size=(12 * clips, 20, 3)).astype(np.float32)
    entries = {"x": x, "len": np.full(clips, 12), "y": np.arange(clips) % 4, "subject": np.arange(clips) // 4}
    np.savez(path, **(entries | changes))
    return path


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"y": np.arange(8) % 4 + 1}, "1 of 5 classes have no clip: 0; labels .* found are 1 … 4\n"),
        (
            {"y": np.arange(8) % 4 * 3},
            "6 of 10 classes have no clip: 1, 2, 4 and 3 more; .* 0, 3, 6, 9\n",
        ),
        ({"scale": 400.0}, r"the farthest joint lies \d{4} from the root .* pixels or millimetres"),
        ({"scale": 9e7}, r"the farthest joint lies .*e\+08 from the root"),
        ({"scale": 1e-3}, r"the farthest joint lies 0\.00\d+ from the root"),
        ({"subject": np.zeros(8, int)}, "there is no clip in test\n"),
    ],
)
def test_warnings(tmp_path, capsys, changes, warning):
    prepare_npz(tmp_path / "out", packed(tmp_path / "a.npz", **changes), "utd-mhad", "subject=0")
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert len(lines) == 1 and re.match(f"warning: {warning}", lines[0])


def test_nothing_to_warn_of(tmp_path, capsys):
    prepare_npz(tmp_path / "out", packed(tmp_path / "a.npz"), "utd-mhad", "subject=0")
    assert capsys.readouterr().err == ""


def test_damaged_frames_are_left_out_or_interpolated(tmp_path, capsys):
    path = packed(tmp_path / "a.npz")
    x = np.load(path)["x"]
    x[17, 3] = np.nan  # frame 5 of clip 1
    packed(path, x=x)
    left_out = prepare_npz(tmp_path / "a", path, "utd-mhad", "subject=0")
    assert [name for name, _ in left_out.skipped] == ["a-1"] and "in frame 5" in left_out.skipped[0][1]
    assert "1 of 8 clips were left out, such as a-1 (expected coordinates" in capsys.readouterr().err
    repaired = prepare_npz(tmp_path / "b", path, "utd-mhad", "subject=0", damaged="interpolate")
    x[17, 3] = (x[16, 3] + x[18, 3]) / 2
    expected = preprocess_clip(x[12:24].transpose(2, 0, 1)[..., None], layout="utd-mhad")
    np.testing.assert_allclose(repaired["train"].clips[1], expected, atol=1e-5)
    assert repaired.skipped == () and repaired.prepared["damaged"] == "interpolate"


def test_synthetic(tmp_path):
    dataset = prepare_synthetic(tmp_path / "out", clips_per_class=6, seed=1)
    assert (len(dataset["train"]), len(dataset["test"]), len(dataset.classes)) == (48, 24, 12)
    assert np.isfinite(dataset["train"].clips).all() and dataset["train"].clips.any(axis=(1, 2, 3, 4)).all()
    assert (dataset["train"].frames <= 120).all() and dataset.skipped == ()
    again = prepare_synthetic(tmp_path / "again", clips_per_class=6, seed=1)
    assert contents(again.folder) == contents(dataset.folder)
    assert open_dataset(tmp_path / "out").prepared["seed"] == 1
    short = prepare_synthetic(tmp_path / "short", clips_per_class=3, frames=20)
    assert short["train"].clips.shape[2] == short.num_frames == 20
    for wrong, message in (
        ({"clips_per_class": 2}, "clips_per_class: expected 3 "),
        ({"clips_per_class": 10**9}, "clips_per_class: expected .* found 1000000000"),
        ({"frames": 10**9}, "frames: expected 1 … 10000, found 1000000000"),
        ({"seed": -1}, "seed:"),
        ({"frames": 0}, "frames: expected 1 "),
    ):
        with pytest.raises(InputError, match=message):
            prepare_synthetic(tmp_path / "wrong", **wrong)


def test_names():
    assert utd_mhad.parse_name("a27_s8_t4_skeleton") == (27, 8, 4)
    assert nw_ucla.parse_name("a12_s10_e05_v03") == (12, 10, 5, 3)
    for name in ("a0_s1_t1_skeleton", "a28_s1_t1_skeleton", "a1_s9_t1_skeleton", "a1_s1_t1_inertial", ""):
        assert utd_mhad.parse_name(name) is None
    for name in ("a07_s01_e00_v01", "a01_s01_e00_v04", "a1_s1_e0_v1", ""):
        assert nw_ucla.parse_name(name) is None


def test_without_the_extension(skeletons, tmp_path, monkeypatch):
    whole = prepare_ntu(tmp_path / "a", skeletons, "ntu60-xview")
    monkeypatch.setattr(skeleton_text, "_skeleton_io", None)
    alike = prepare_ntu(tmp_path / "b", skeletons, "ntu60-xview", workers=1)
    assert contents(alike.folder) == contents(whole.folder)


def test_importing_is_cheap():
    """Only the command that needs them imports the libraries that are not the point."""
    code = "import sys, ikem_fast.data; print({'scipy', 'rich', 'jsonargparse', 'torch'} & set(sys.modules))"
    root = Path(__file__).resolve().parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "set()"
