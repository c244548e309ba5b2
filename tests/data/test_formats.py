"""The table of formats: what every one of them offers, and that each knows its own files and no other's."""

import inspect
import json
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from scipy.io import savemat

from ikem_fast.data import FORMATS, Dataset
from ikem_fast.data.formats import find_format
from ikem_fast.errors import InputError
from tests.data.foreign import Raw, write_agcn, write_crossclr, write_ctrgcn, write_pyskl

FRAMES = np.random.default_rng(0).normal(size=(7, 20, 3)).astype(np.float32)


def ntu(folder):
    joint = " ".join(["0.5"] * 12)
    lines = ["7", *["\n".join(["1", "9 0 1 1 1 1 0 0 0 2", "25", *[joint] * 25])] * 7]
    (folder / "S001C001P001R001A001.skeleton").write_text("\n".join(lines))


def nw_ucla(folder):
    (folder / "a01_s01_e00_v01.json").write_text(json.dumps({"skeletons": FRAMES.tolist()}))


def utd_mhad(folder):
    savemat(folder / "a1_s1_t1_skeleton.mat", {"d_skel": FRAMES.transpose(1, 2, 0)})


def npz(folder):
    np.savez(folder / "clips.npz", x=FRAMES, len=np.array([7]), y=np.array([0]))


def clips(joints):
    """A training clip and a test clip, both of FRAMES."""
    raw = np.zeros((3, 7, joints, 2), np.float32)
    raw[:, :, :20, 0] = FRAMES.transpose(2, 0, 1)
    return [Raw("one", 0, "train", raw), Raw("two", 0, "test", raw)]


def crossclr(folder):
    write_crossclr(folder, clips(25), lambda raw: (raw, 7), counts=False)


def agcn(folder):
    write_agcn(folder, clips(25), counts=False)


def ctrgcn(folder):
    write_ctrgcn(folder / "NTU60_CS.npz", clips(25))


def pyskl(folder):
    write_pyskl(folder / "ntu60_3danno.pkl", clips(25))


MAKERS = {
    "ntu": ntu, "nw-ucla": nw_ucla, "utd-mhad": utd_mhad, "npz": npz,
    "crossclr": crossclr, "agcn": agcn, "ctrgcn": ctrgcn, "pyskl": pyskl,
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_options_can_be_made_of_it(name):
    """As the command line does: from annotations and a docstring that describes every parameter."""
    chosen = FORMATS[name]
    parameters = inspect.signature(chosen.prepare).parameters
    hints = get_type_hints(chosen.prepare)
    assert next(iter(parameters)) == "out" and hints["out"] is Path and hints["return"] is Dataset
    assert parameters.keys() | {"return"} == hints.keys()
    assert all(f"\n        {parameter}: " in chosen.prepare.__doc__ for parameter in parameters)
    assert chosen.name == name and chosen.summary.endswith(".")
    assert chosen.example.startswith(f"ikem-fast prepare {name} --")
    assert name == "synthetic" or "source" in parameters, "the one name of where clips come from"


def test_each_knows_its_own_files(tmp_path):
    assert MAKERS.keys() == {name for name, chosen in FORMATS.items() if chosen.read}
    for name, make in MAKERS.items():
        folder = tmp_path / name
        folder.mkdir()
        make(folder)
        alone = len(list(folder.iterdir())) == 1
        path = next(folder.iterdir()) if alone else folder
        assert [other for other in FORMATS if FORMATS[other].detect(path)] == [name]
        found, why = find_format(path)
        assert found.name == name and why
        clip = next(FORMATS[name].read(path))
        assert clip.dtype == np.float32 and clip.shape[:2] == (3, 7)
        if name not in ("ntu", "ctrgcn"):
            np.testing.assert_array_equal(clip[:, :, :20, 0], FRAMES.transpose(2, 0, 1))
        for file in folder.iterdir():
            file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(InputError, match=f"{path.name if alone else 'train_'}.*: .*expected"):
            list(FORMATS[name].read(path))
    with pytest.raises(InputError, match=r"nowhere: expected a file or a folder"):
        find_format(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"expected clips of one of ntu, .*found none of them"):
        find_format(Path(__file__))
    with pytest.raises(InputError, match=r"found ntu \(.*nw-ucla \("):
        find_format(tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ntu", {"protocol": "ntu60-xsub", "workers": 1}),
        ("nw-ucla", {"workers": 1}),
        ("utd-mhad", {"workers": 1}),
    ],
)
def test_who_was_recorded_is_kept(tmp_path, name, options):
    (tmp_path / "raw").mkdir()
    MAKERS[name](tmp_path / "raw")
    dataset = FORMATS[name].prepare(tmp_path / "out", tmp_path / "raw", **options)
    assert dataset["train"].subjects.tolist() == ["1"]
    people = FORMATS["synthetic"].prepare(tmp_path / "people", clips_per_class=3)
    assert set(people["train"].subjects) & set(people["test"].subjects) == set()


@pytest.mark.parametrize("name", ["ntu", "nw-ucla", "utd-mhad"])
def test_a_folder_of_clips_is_known(tmp_path, name):
    (tmp_path / "deep").mkdir()
    MAKERS[name](tmp_path / "deep")
    assert [other for other in FORMATS if FORMATS[other].detect(tmp_path)] == [name]
