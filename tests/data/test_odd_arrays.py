"""Arrays and motion capture in forms that somebody has: read as they are meant, or refused with a reason."""

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import FORMATS
from ikem_fast.data.formats import find_format
from ikem_fast.data.formats.text import as_rows
from ikem_fast.errors import InputError
from tests.data import foreign
from tests.data.test_own import some_raw


def arrays(folder, **clips):
    """Clips of one class, of the joints of Kinect v1."""
    (folder / "walk").mkdir(parents=True)
    for name, clip in clips.items():
        np.save(folder / "walk" / f"{name}.npy", clip)
    return folder


def test_arrays_of_other_numbers_of_bodies(tmp_path):
    """Those who are fewer have nobody beside them; those who are more are left out by name, or asked for."""
    one, two = some_raw(20)[..., 0].transpose(1, 2, 0), some_raw(20, bodies=2).transpose(1, 2, 0, 3)
    source = arrays(tmp_path / "in", a=two, b=one, c=two)
    prepare = FORMATS["arrays"].prepare
    dataset = prepare(tmp_path / "two", source, "kinect-v1", workers=1)
    assert dataset.num_bodies == 2 and not dataset.skipped
    assert not dataset["train"].clips[1, ..., 1].any() and dataset["train"].clips[0, ..., 1].any()
    alone = prepare(tmp_path / "one", arrays(tmp_path / "in1", b=one), "kinect-v1", workers=1)
    np.testing.assert_array_equal(dataset["train"].clips[1, ..., :1], alone["train"].clips[0])
    source = arrays(tmp_path / "in2", a=one, b=one, c=two)
    found = prepare(tmp_path / "out", source, "kinect-v1", workers=1)
    assert found.skipped == (("c", "expected at most 1 bodies, found 2; --bodies says how many"),)
    assert not prepare(tmp_path / "asked", source, "kinect-v1", bodies=2, workers=1).skipped


def test_arrays_that_are_cut_are_told_with_their_sizes(tmp_path):
    source = arrays(tmp_path / "in", a=np.ones((8, 20, 3)))
    path = source / "walk" / "a.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        InputError, match=r"a\.npy: expected 3968 bytes, as declared for shape \(8, 20, 3\) of float64"
    ):
        FORMATS["arrays"].prepare(tmp_path / "out", source, "kinect-v1", workers=1)


def test_a_list_that_is_not_there_is_named(tmp_path):
    source = arrays(tmp_path / "in", a=np.ones((8, 20, 3)))
    for labels, said in (
        (tmp_path / "no.csv", "cannot be read: .*No such file"),
        (tmp_path, "found a folder"),
    ):
        with pytest.raises(InputError, match=f"{labels.name}: expected a list of names and labels.*{said}"):
            FORMATS["arrays"].prepare(tmp_path / "out", source, "kinect-v1", labels=labels, workers=1)


@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_tables_in_utf16(order):
    """As spreadsheets write "Unicode text"."""
    content = "\ufeff1\t2.5\r\n-3\t4\r\n".encode(order)
    np.testing.assert_array_equal(as_rows(content), [[1, 2.5], [-3, 4]])


def test_an_archive_that_is_none_is_told_by_prepare_auto(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 nothing")
    for path in (tmp_path / "a.zip", tmp_path):
        with pytest.raises(InputError, match=r"a\.zip: expected a \.zip archive, found"):
            find_format(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="found none of them"):
        find_format(tmp_path / "empty")


@pytest.mark.parametrize("form", ["crossclr", "agcn"])
def test_arrays_without_frames_leave_nothing_behind(tmp_path, form, capsys):
    (tmp_path / "in").mkdir()
    name = {"crossclr": "position", "agcn": "data_joint"}[form]
    for part in ("train", "val"):
        np.save(tmp_path / "in" / f"{part}_{name}.npy", np.zeros((2, 3, 0, 25, 2), np.float32))
        foreign.write_pickle(tmp_path / "in" / f"{part}_label.pkl", (["a", "b"], [0, 1], [5, 5]))
    assert main(["prepare", form, "--source", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 2
    assert "expected frames, joints and bodies" in capsys.readouterr().err
    assert not list(tmp_path.glob("out*"))


def archive(path, y, columns=150):
    x = np.random.default_rng(0).normal(size=(3, 12, columns)).astype(np.float32)
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    return path


def test_labels_of_archives_as_columns_and_bytes(tmp_path):
    found = FORMATS["ctrgcn"].prepare(tmp_path / "a", archive(tmp_path / "a.npz", np.array([[2], [0], [1]])))
    assert found["train"].labels.tolist() == [2, 0, 1]
    y = np.array([b"sit", "стрибок".encode(), b"walk"])
    found = FORMATS["ctrgcn"].prepare(tmp_path / "b", archive(tmp_path / "b.npz", y))
    assert found.classes == ("sit", "walk", "стрибок") and found["test"].labels.tolist() == [0, 2, 1]


def test_archives_of_other_joints_and_in_folders(tmp_path):
    for columns, said in ((102, "two bodies"), (51, "one body")):
        path = archive(tmp_path / f"{columns}.npz", np.arange(3), columns)
        with pytest.raises(InputError, match=f"{said} a row: expected 25 joints .*found 17; .*coco, h36m"):
            FORMATS["ctrgcn"].prepare(tmp_path / "out", path)
    with pytest.raises(InputError, match=r"expected an \.npz such as NTU60_CS\.npz, found a folder"):
        FORMATS["ctrgcn"].prepare(tmp_path / "out", tmp_path)


def test_packed_archives_with_dates_and_other_joints(tmp_path):
    """What is no number or text is no attribute; a layout of other joints is named beside those that fit."""
    x = some_raw(17)[..., 0].transpose(1, 2, 0)
    dates = np.array(["2020-01-01", "2020-01-02"], "M8[D]")
    np.savez(tmp_path / "a.npz", x=x, len=[5, 7], y=[0, 1], date=dates)
    found = FORMATS["npz"].prepare(tmp_path / "out", tmp_path / "a.npz", "coco", test="ratio=0.5")
    assert found["train"].frames.tolist() == [5, 7]
    with pytest.raises(InputError, match=r"expected 20 joints .*found 17; --layout .*: coco, h36m"):
        FORMATS["npz"].prepare(tmp_path / "out2", tmp_path / "a.npz", "kinect-v1", test="ratio=0.5")


def test_hierarchies_with_a_wearer_s_name(tmp_path):
    """Sides and shoulders are found behind it."""
    foreign.write_bvh(tmp_path / "in" / "walk" / "a.bvh", np.arange(45.0).reshape(3, 15))
    path = tmp_path / "in" / "walk" / "a.bvh"
    plain = FORMATS["bvh"].prepare(tmp_path / "plain", tmp_path / "in", workers=1)
    text = path.read_text()
    for name in ("Hips", "LeftArm", "RightArm", "RightHand"):
        text = text.replace(name, f"mixamorig:{name}")
    path.write_text(text)
    named = FORMATS["bvh"].prepare(tmp_path / "named", tmp_path / "in", workers=1)
    np.testing.assert_array_equal(named["train"].clips[:], plain["train"].clips[:])
    path.write_text(text.replace("RightArm", "LeftArm"))
    with pytest.raises(InputError, match="found mixamorig:LeftArm twice"):
        FORMATS["bvh"].prepare(tmp_path / "twice", tmp_path / "in", workers=1)
    path.write_text(text.replace("0.025", "0,025"))
    with pytest.raises(InputError, match="expected a frame time above 0, found 0,025"):
        FORMATS["bvh"].prepare(tmp_path / "time", tmp_path / "in", workers=1)
