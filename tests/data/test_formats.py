"""The table of formats: what every one of them offers, and that each knows its own files and no other's."""

import inspect
import json
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from scipy.io import savemat

from ikem_fast.data import FORMATS, Dataset
from ikem_fast.errors import InputError

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


MAKERS = {"ntu": ntu, "nw-ucla": nw_ucla, "utd-mhad": utd_mhad, "npz": npz}


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


def test_each_knows_its_own_files(tmp_path):
    assert MAKERS.keys() == {name for name, chosen in FORMATS.items() if chosen.read}
    for name, make in MAKERS.items():
        folder = tmp_path / name
        folder.mkdir()
        make(folder)
        (path,) = folder.iterdir()
        assert [other for other in FORMATS if FORMATS[other].detect(path)] == [name]
        (clip,) = FORMATS[name].read(path)
        assert clip.dtype == np.float32 and clip.shape[:2] == (3, 7)
        if name != "ntu":
            np.testing.assert_array_equal(clip[..., 0], FRAMES.transpose(2, 0, 1))
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InputError, match=f"{path.name}: .*expected"):
            list(FORMATS[name].read(path))
    assert not any(chosen.detect(tmp_path / "nowhere") for chosen in FORMATS.values())


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
