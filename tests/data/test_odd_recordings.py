"""Recordings of motion capture and of datasets with parts that lie, are missing or are called otherwise."""

import json

import numpy as np
import pytest

from ikem_fast.data import FORMATS
from ikem_fast.data.formats import bvh, c3d, smarthome, uav_human
from ikem_fast.data.preparation import Preparation, Preprocessing, preparing
from ikem_fast.errors import InputError
from ikem_fast.skeleton import get_layout
from tests.data import foreign
from tests.data.test_own import some_raw

BVH = foreign.BVH % 6 + foreign.lines(np.random.default_rng(0).uniform(-90, 90, (6, 15)))


@pytest.mark.parametrize("seconds", ["inf", "1e-320", "1e300"])
def test_a_frame_rate_that_is_none(tmp_path, seconds):
    """Is as unknown as where a file has none, or makes too long a clip; never the run's end."""
    (tmp_path / "in" / "walk").mkdir(parents=True)
    (tmp_path / "in" / "walk" / "a.bvh").write_text(BVH.replace("0.025", seconds))
    said = "expected at most 1048576 frames" if seconds == "1e300" else "give --source-rate"
    with preparing(Preparation(Preprocessing(frame_rate=30))), pytest.raises(InputError, match=said):
        FORMATS["bvh"].prepare(tmp_path / "out", tmp_path / "in", workers=1)
    if seconds != "1e300":
        with preparing(Preparation(Preprocessing(frame_rate=30, source_rate=60))):
            dataset = FORMATS["bvh"].prepare(tmp_path / "out", tmp_path / "in", workers=1)
        assert dataset["train"].frames.tolist() == [3]


def test_bvh_in_other_words():
    """A joint may have MOTION in its name, and words other capitals than most write."""
    expected = bvh.parse_motion(BVH.encode()).positions()
    for old, new in (("RightHand", "MOTIONHand"), ("Frame Time", "Frame time")):
        np.testing.assert_array_equal(bvh.parse_motion(BVH.replace(old, new).encode()).positions(), expected)


def test_markers_with_the_name_of_who_wears_them(tmp_path):
    ezc3d = pytest.importorskip("ezc3d")
    raw = some_raw(2)

    def written(*labels):
        made = ezc3d.c3d()
        made["parameters"]["POINT"]["LABELS"]["value"] = labels
        made["parameters"]["POINT"]["RATE"]["value"] = [50]
        places = np.tile(raw[..., 0].transpose(0, 2, 1), (1, len(labels) // 2, 1))
        made["data"]["points"] = np.concatenate([places, np.ones_like(places[:1])])
        made.write(str(tmp_path / "a.c3d"))
        return (tmp_path / "a.c3d").read_bytes()

    for labels in (("Anna:HEAD", "Anna:LSHO  "), ("Bo:HEAD", "LSHO")):
        found = c3d.parse_clip(written(*labels), ("LSHO", "HEAD")).coordinates
        np.testing.assert_allclose(found, raw[:, :, ::-1], atol=1e-6)
    two = written("A:HEAD", "A:LSHO", "B:HEAD", "B:LSHO")
    assert c3d.parse_clip(two, ("B:LSHO", "B:HEAD")).coordinates.shape == (3, 12, 2, 1)
    with pytest.raises(ValueError, match="expected markers LSHO, HEAD, found A:HEAD"):
        c3d.parse_clip(two, ("LSHO", "HEAD"))


def test_poses_of_smarthome_that_are_others():
    pose = np.arange(39.0)
    for values in (np.arange(78.0), pose.reshape(13, 3), pose.reshape(3, 13)):
        content = json.dumps({"frames": [[{"pose3d": values.tolist()}]] * 3}).encode()
        with pytest.raises(ValueError, match=r"expected 'pose3d' of 39 numbers .*, found \((78|13|3),"):
            smarthome.parse_clip(content)
    for content in ({"frames": [[], []]}, {"frames": []}):
        with pytest.raises(ValueError, match=r"expected people, found none in any of (0|2) frames"):
            smarthome.parse_clip(json.dumps(content).encode())


def test_frames_of_uav_human_behind_those_it_counts(tmp_path):
    foreign.write_uav(tmp_path / "a.txt", some_raw(17, frames=6))
    content = (tmp_path / "a.txt").read_bytes()
    assert uav_human.parse_clip(content + b"\n \r\n").shape == (3, 6, 17, 2)
    with pytest.raises(ValueError, match="expected the end of the file behind 4 frames, found more"):
        uav_human.parse_clip(content.replace(b"6", b"4", 1))


def pku(folder, labels, recordings=("0002-L", "0003-L")):
    """Recordings of twenty frames; the first is for training, the second for the test."""
    for part in ("Skeletons", "Labels"):
        (folder / part).mkdir(parents=True)
    for name in recordings:
        (folder / "Skeletons" / f"{name}.txt").write_text(foreign.lines(some_raw(150, frames=20)[0, ..., 0]))
    for name, text in labels.items():
        (folder / "Labels" / f"{name}.txt").write_text(text)
    (folder / "cross-subject.txt").write_text("Training: \n0002-L, \nValidation: \n0003-L")
    return folder


def test_recordings_of_pku_mmd_that_nothing_is_known_of(tmp_path, capsys):
    """Each is told of: without labels, without a recording, in neither part of the list."""
    labels = {"0002-L": "1,0,10,2\n", "0003-L": "", "0004-L": "3,0,20,1", "0009-M": "3,0,20,1"}
    source = pku(tmp_path / "in", labels, ("0002-L", "0003-L", "0009-M"))
    assert FORMATS["pku-mmd"].detect(source) and not capsys.readouterr().err, "told of where it is prepared"
    dataset = FORMATS["pku-mmd"].prepare(tmp_path / "out", source, workers=1)
    assert dataset["train"].labels.tolist() == [0] and not len(dataset["test"])
    assert dataset.skipped[0] == ("0009-M_00000", "expected its recording in the protocol's list, found none")
    told = capsys.readouterr().err
    assert "1 label files without a recording: 0004-L" in told
    assert "1 recordings without labels: 0003-L" in told


def test_actions_of_pku_mmd_that_begin_together(tmp_path):
    """Two people, or a part of an action, in any order: each is a clip of its own."""
    labels = {"0002-L": "2,0,10,2\n1,0,20,2\n3,5,10,1\n2,0,15,1\n", "0003-L": "1,0,10,2\n"}
    dataset = FORMATS["pku-mmd"].prepare(tmp_path / "out", pku(tmp_path / "in", labels), workers=1)
    assert dataset["train"].names.tolist() == [
        "0002-L_00000", "0002-L_00000#2", "0002-L_00005", "0002-L_00000#3"
    ]  # fmt: skip
    assert dataset["train"].labels.tolist() == [1, 0, 2, 1] and not dataset.skipped
    assert dataset["train"].frames.tolist() == [10, 20, 5, 15]


@pytest.mark.parametrize("label", ["1.5,0,10,2", "1,0.5,10,2", "nan,0,10,2"])
def test_labels_of_pku_mmd_are_whole_numbers(tmp_path, label):
    with pytest.raises(InputError, match=r"0002-L\.txt: expected action 1 … 51, first and last frame, found"):
        FORMATS["pku-mmd"].prepare(tmp_path / "out", pku(tmp_path / "in", {"0002-L": label}), workers=1)


def test_whole_numbers_that_are_floats_in_an_archive(tmp_path):
    """As MATLAB and tables have them: labels, lengths, attributes; labels may be rows of one-hot."""
    x = some_raw(20, frames=18)[..., 0].transpose(1, 2, 0)
    given = {"x": x, "len": [6.0, 6.0, 6.0], "y": [0.0, 1.0, 0.0]}
    np.savez(tmp_path / "a.npz", **given, view=[1.0, 2.0, 3.0])
    dataset = FORMATS["npz"].prepare(tmp_path / "out", tmp_path / "a.npz", "kinect-v1", test="view=3")
    assert (dataset["train"].labels.tolist(), dataset["test"].labels.tolist()) == ([0, 1], [0])
    rows = np.eye(3)[[0, 2, 1]]
    for number, y in enumerate((rows, rows.astype(bool), np.asfortranarray(rows.astype("u1")))):
        np.savez(tmp_path / "b.npz", **{**given, "y": y})
        dataset = FORMATS["npz"].prepare(
            tmp_path / f"b{number}", tmp_path / "b.npz", "kinect-v1", test="ratio=0.1"
        )
        assert sorted([*dataset["train"].labels, *dataset["test"].labels]) == [0, 1, 2]
    for y, said in (
        (rows * 0.5, "expected one-hot labels"),
        (rows.astype("U3"), "in 'y', found <U3 of shape"),
    ):
        np.savez(tmp_path / "c.npz", **{**given, "y": y})
        with pytest.raises(InputError, match=said):
            FORMATS["npz"].prepare(tmp_path / "c", tmp_path / "c.npz", "kinect-v1")


@pytest.mark.parametrize("counts", [[5, 0, 7], [5, 6.0, 7], [5, True, 7]])
def test_frame_counts_of_label_files_are_whole_numbers(tmp_path, counts):
    clips = foreign.some_clips(4)
    foreign.write_crossclr(tmp_path, clips, lambda raw: (raw[:, :20], 20))
    names = [clip.name for clip in clips[:3]]
    foreign.write_pickle(tmp_path / "train_label.pkl", (names, [0, 1, 0], counts))
    with pytest.raises(InputError, match=rf"expected frame counts ≥ 1, whole numbers, found {counts[1]}"):
        FORMATS["crossclr"].prepare(tmp_path / "out", tmp_path)


def test_lengths_below_one_leave_no_folder(tmp_path):
    clips = foreign.some_clips(4)
    (tmp_path / "in").mkdir()
    for clip in clips:
        clip.coordinates[:, :, get_layout("ntu-rgb+d").root] = 0
    foreign.write_crossclr(tmp_path / "in", clips, lambda raw: (raw[:, :20], 20), counts=False)
    (tmp_path / "lengths.txt").write_text("\n".join(f"{clip.name} -5" for clip in clips))
    with pytest.raises(
        InputError, match=r"lengths\.txt: expected .*, found: counts below 1, of S001C001P001"
    ):
        FORMATS["crossclr"].prepare(tmp_path / "out", tmp_path / "in", lengths=str(tmp_path / "lengths.txt"))
    assert not (tmp_path / "out").exists()


def test_counts_of_agcn_that_are_none(tmp_path):
    foreign.write_agcn(tmp_path, foreign.some_clips(4))
    np.save(tmp_path / "train_num_frame.npy", [20, np.nan, 20])
    with pytest.raises(InputError, match=r"train_num_frame\.npy: expected numbers of frames, found NaN"):
        FORMATS["agcn"].prepare(tmp_path / "out", tmp_path)


@pytest.mark.parametrize("form", ["agcn", "crossclr"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_labels_beside_arrays_may_be_an_npy(tmp_path, form, one_hot):
    """Called so; the pickle, which has names, goes first where there are both."""
    clips = foreign.some_clips(4)
    (tmp_path / "in").mkdir()
    if form == "agcn":
        foreign.write_agcn(tmp_path / "in", clips)
    else:
        foreign.write_crossclr(tmp_path / "in", clips, lambda raw: (raw[:, :20], 20), counts=False)
    plain = FORMATS[form].prepare(tmp_path / "plain", tmp_path / "in")
    for part in ("train", "val"):
        labels = np.array([clip.label for clip in clips if (clip.split == "train") == (part == "train")])
        np.save(tmp_path / "in" / f"{part}_label.npy", np.eye(3)[labels] if one_hot else labels)
    both = FORMATS[form].prepare(tmp_path / "both", tmp_path / "in")
    assert both["train"].names.tolist() == plain["train"].names.tolist()
    for part in ("train", "val"):
        (tmp_path / "in" / f"{part}_label.pkl").unlink()
    alone = FORMATS[form].prepare(tmp_path / "alone", tmp_path / "in")
    for split in ("train", "test"):
        assert alone[split].labels.tolist() == plain[split].labels.tolist()
        np.testing.assert_array_equal(alone[split].clips[:], plain[split].clips[:])
    (tmp_path / "in" / "val_label.npy").unlink()
    with pytest.raises(InputError, match=r"expected val_label\.pkl or val_label\.npy beside it, found none"):
        FORMATS[form].prepare(tmp_path / "none", tmp_path / "in")
