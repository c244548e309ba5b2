"""Numbers, clips and memory that fail in the middle of a run."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ikem_fast.errors import InputError
from ikem_fast.train import limits, load_checkpoint, pretrain
from ikem_fast.train.views import Views
from tests.faults import runs
from tests.faults.runs import TINY


def settings(out, **changes):
    return runs.settings(out, **{"max_steps": 6, "checkpoint_steps": 1, **changes})


@pytest.fixture
def damaged(tmp_path):
    """The tiny dataset, where one coordinate of clip 3 has become NaN since it was prepared."""
    folder = Path(shutil.copytree(TINY, tmp_path / "data"))
    clips = np.load(folder / "train_clips.npy")
    clips[3, 0, 0, 0, 0] = np.nan
    np.save(folder / "train_clips.npy", clips)
    return folder


def test_a_clip_that_is_not_finite_ends_a_run_and_is_named(damaged, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(InputError, match=r"coordinates that are not finite in clip3 in step [12]"):
        pretrain(settings(out, data=damaged))
    (record,) = map(json.loads, (out / "nonfinite.jsonl").read_text().splitlines())
    assert record["clips"] == ["clip3"] and record["damaged"] and record["step"] in (1, 2)
    for path in out.glob("checkpoint*.pt"):
        assert all(bool(value.isfinite().all()) for value in load_checkpoint(path)["model"].values())


def test_steps_that_are_not_finite_are_passed_over_where_that_is_asked_for(damaged, tmp_path):
    pretrain(settings(tmp_path / "run", data=damaged, nonfinite="skip"))
    state = load_checkpoint(tmp_path / "run")
    assert state["step"] == 6
    records = (tmp_path / "run" / "nonfinite.jsonl").read_text().splitlines()
    assert [json.loads(record)["clips"] for record in records] == [["clip3"]] * 3
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["loss"]) and line["gradient_norm"] > 0 for line in lines)


def test_where_every_step_is_bad_a_run_ends(tmp_path, monkeypatch):
    call = Views.__call__

    def spoiled(self, clips, *rest):
        return call(self, clips * float("nan"), *rest)

    monkeypatch.setattr(Views, "__call__", spoiled)
    with pytest.raises(InputError, match="the last of 10 such steps in a row"):
        pretrain(settings(tmp_path / "run", nonfinite="skip", max_steps=30))


def test_a_dataset_that_is_written_to_under_a_run_ends_it(tmp_path, monkeypatch):
    data = Path(shutil.copytree(TINY, tmp_path / "data"))
    call, steps = Views.__call__, []

    def overwritten(self, *batch):
        steps.append(1)
        if len(steps) == 2:
            with (data / "train_clips.npy").open("r+b") as file:
                file.truncate(200)
        return call(self, *batch)

    monkeypatch.setattr(Views, "__call__", overwritten)
    with pytest.raises(InputError, match=r"train_clips\.npy: expected a file that stays as it is"):
        pretrain(settings(tmp_path / "run", data=data))
    assert load_checkpoint(tmp_path / "run")["step"] >= 2


def test_a_dataset_that_is_deleted_under_a_run_is_trained_on_to_its_end(tmp_path, monkeypatch):
    data = Path(shutil.copytree(TINY, tmp_path / "data"))
    call = Views.__call__

    def deleted(self, *batch):
        shutil.rmtree(data, ignore_errors=True)
        return call(self, *batch)

    monkeypatch.setattr(Views, "__call__", deleted)
    pretrain(settings(tmp_path / "run", data=data))
    monkeypatch.undo()
    pretrain(settings(tmp_path / "whole"))
    states = [load_checkpoint(tmp_path / name)["model"] for name in ("run", "whole")]
    torch.testing.assert_close(*states, rtol=0, atol=0)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"),
     RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)  # fmt: skip
def test_too_little_memory_says_what_to_lower(error, tmp_path, monkeypatch):
    def starved(self, *batch):
        raise error

    monkeypatch.setattr(Views, "__call__", starved)
    with pytest.raises(InputError, match=r"batches of 2 clips.*--batch-size 1 .*--model\.queue-size 4 "):
        pretrain(settings(tmp_path / "run"))


def test_too_little_memory_says_by_how_much(tmp_path, monkeypatch):
    """For real: a thousand times what there is, of which an eighth of a thousandth fits with room."""
    asked = 1000 * limits.free_memory()

    def greedy(self, *batch):
        torch.empty(asked, dtype=torch.uint8)

    monkeypatch.setattr(Views, "__call__", greedy)
    with pytest.raises(
        InputError, match=r"GB are free; try --batch-size 1 .*1/2 of a step's memory"
    ) as caught:
        pretrain(settings(tmp_path / "run"))
    assert limits.asked_for(str(caught.value)) == asked
    assert re.search(
        r"--model\.queue-size 1 \(a bank of 3.2e-05 MB in place of 0.000256 MB\)", str(caught.value)
    )


def test_a_folder_that_goes_away_is_one_message(tmp_path, monkeypatch):
    call = Views.__call__

    def gone(self, *batch):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return call(self, *batch)

    monkeypatch.setattr(Views, "__call__", gone)
    with pytest.raises(OSError, match="No such file"):
        pretrain(settings(tmp_path / "run"))


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.name == "nt" or os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small tmpfs is mounted by root alone")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_has_no_room_left_for_the_next_checkpoint_is_told_of(tmp_path, monkeypatch):
    """Ahead of its first byte, with what is needed and there, and which checkpoint is kept."""
    usage = shutil.disk_usage

    def less_and_less(path):
        written = (tmp_path / "run" / "checkpoint.pt").exists()
        return SimpleNamespace(free=1000) if written else usage(path)

    monkeypatch.setattr("shutil.disk_usage", less_and_less)
    told = r"expected [\d.]+ MB free .* found 0.001 MB; .*; the checkpoint of step 3 is kept, --resume auto"
    with pytest.raises(InputError, match=told):
        pretrain(settings(tmp_path / "run", max_steps=6, checkpoint_steps=3))
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "run")["step"] == 3
    pretrain(settings(tmp_path / "run", max_steps=6, checkpoint_steps=3, resume="auto"))


def test_a_full_disk_ends_a_run_and_leaves_what_can_be_gone_on_with(small_disk, tmp_path):
    config = settings(small_disk / "run", max_steps=40, keep_last=40)
    told = r"No space left on device \([\d.]+ MB are free\); .*--resume auto"
    ahead = r"expected [\d.]+ MB free on its disk for a checkpoint, .*--resume auto"
    with pytest.raises((OSError, InputError), match=f"{told}|{ahead}"):
        pretrain(config)
    state = load_checkpoint(small_disk / "run")
    assert 0 < state["step"] < 40
    moved = shutil.copytree(small_disk / "run", tmp_path / "run")
    pretrain(replace(config, out=moved, max_steps=12, resume="auto"))
    pretrain(replace(config, out=tmp_path / "whole", max_steps=12))
    states = [load_checkpoint(out)["model"] for out in (moved, tmp_path / "whole")]
    torch.testing.assert_close(*states, rtol=0, atol=0)
