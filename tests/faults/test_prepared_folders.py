"""Folders of prepared and half-prepared clips that were manipulated: refused, and nothing else is touched."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import DatasetWriter, open_dataset
from ikem_fast.errors import InputError
from tests.faults.runs import TINY
from tests.helpers import contents

SETTINGS = {
    "name": "tiny", "layout": "sbu", "classes": ["a"], "num_frames": 4, "num_bodies": 1, "prepared": {},
    "sources": ["1", "2", "3", "4"], "name_length": 1,
}  # fmt: skip


@pytest.fixture
def interrupted(tmp_path):
    """Two of four clips are prepared, and a folder that is nobody's business lies beside."""
    clip = np.ones((3, 4, 15, 1), np.float32)
    with DatasetWriter(tmp_path / "out", **SETTINGS) as writer:
        for name in ("1", "2"):
            writer.add("train", clip, 4, 0, name)
    (tmp_path / "victim").mkdir()
    for part in ("clips", "frames", "labels", "names"):
        (tmp_path / f"victim_{part}.npy").write_bytes(bytes(4096))
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        {"splits": {"../victim": 2, "test": 0}},
        {"splits": {"../evil": 2, "train": 0, "test": 0}},
        {"splits": {"train": 2, "test": 0, "/tmp/evil": 0}},
        {"splits": {"train": -2, "test": 4}},
        {"splits": {"train": 2.0, "test": 0}},
        {"splits": {"train": 10**12, "test": 0}},
        {"splits": []},
        {"done": 102},
        {"done": -98},
        {"done": True},
        {"done": 1},
        {"skipped": [["\x1b[2J", 3]]},
        {"skipped": "none"},
    ],
    ids=str,
)
def test_a_state_that_lies_is_refused_and_nothing_is_written(changes, interrupted):
    progress = interrupted / "out.partial" / "progress.json"
    progress.write_text(json.dumps(json.loads(progress.read_text()) | changes))
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="expected the state of an interrupted preparation") as caught:
        DatasetWriter(interrupted / "out", **SETTINGS)
    assert "\x1b" not in str(caught.value)
    assert {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()} == before


def test_an_array_that_was_made_a_link_is_not_written_through(interrupted):
    array = interrupted / "out.partial" / "train_clips.npy"
    array.unlink()
    array.symlink_to(interrupted / "victim_clips.npy")
    with pytest.raises(InputError, match="found a link"):
        DatasetWriter(interrupted / "out", **SETTINGS)
    assert (interrupted / "victim_clips.npy").read_bytes() == bytes(4096)


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "data"))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "[/x]\x1b[2J"},
        {"name": "\u202eevil"},
        {"classes": ["a", "b\n"]},
        {"classes": ["a"] * 10**5},
        {"layout": "../../etc"},
        {"bodies": 10**12},
        {"frames": True},
        {"splits": {"../train": 4}},
        {"splits": {"train": 10**15, "test": 2}},
        {"version": "1"},
        {"skipped": {"a": "b"}},
    ],
    ids=lambda changes: repr(changes)[:40],
)
def test_a_description_that_lies_is_one_message(changes, folder, capsys):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=r"data/\w+\.(json|npy)"):
        open_dataset(folder)
    assert main(["pretrain", "--data", str(folder), "--out", str(folder / "run")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said[:-1].isprintable() and len(said) < 5000


def test_nesting_without_end_is_one_message(folder):
    (folder / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="expected a JSON file"):
        open_dataset(folder)


@pytest.mark.parametrize("name", ["dataset.json", "train_clips.npy"])
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_a_pipe_in_place_of_a_file_does_not_hang(name, folder):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=r"found no (dataset\.json|such file)"):
        open_dataset(folder)


def test_opening_writes_nothing(folder):
    before = contents(folder)
    open_dataset(folder)
    assert contents(folder) == before
