"""`prepare ntu`: real files, archives, skip lists, broken files, names that do not print."""

import os
import zipfile

import numpy as np
import pytest

from ikem_fast.data import open_dataset, preprocess_clip, read_skeleton
from ikem_fast.data import skeletons as skeleton_text
from ikem_fast.data.formats.ntu import prepare_ntu
from ikem_fast.errors import InputError
from tests.helpers import contents

BODILESS = [("S006C002P023R001A023", 76), ("S008C003P007R001A023", 56)]


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
    printed = capsys.readouterr()
    assert "24 train, 11 test clips of 60 classes" in printed.out
    assert all(f"  {name}: expected a body" in printed.err for name, _ in BODILESS)
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
    warned = printed.err.partition("10 of 11 clips were left out:\n")[2].splitlines()[:10]
    assert len({line for line in warned if line.startswith("  ")}) == 10
    assert "expected" not in printed.out, "told once"
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


def test_without_the_extension(skeletons, tmp_path, monkeypatch):
    whole = prepare_ntu(tmp_path / "a", skeletons, "ntu60-xview")
    monkeypatch.setattr(skeleton_text, "_skeleton_io", None)
    alike = prepare_ntu(tmp_path / "b", skeletons, "ntu60-xview", workers=1)
    assert contents(alike.folder) == contents(whole.folder)
