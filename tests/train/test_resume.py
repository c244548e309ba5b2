"""Going on: what may change between two parts of a run, and all that may not, by name with both values."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from ikem_fast.errors import InputError
from ikem_fast.train import DistillConfig, PretrainConfig, distill, load_checkpoint, pretrain
from tests.train import tiny
from tests.train.tiny import TINY

MODEL = replace(tiny.MODEL, dropout=0.1)


def prepared(folder, *, shift=0.0, clips=4, classes="ab"):
    """The tiny prepared folder of tests/version1, with other coordinates, fewer clips or other classes."""
    shutil.copytree(TINY, folder)
    for name in ("clips", "frames", "labels", "names"):
        array = np.load(TINY / f"train_{name}.npy")[:clips]
        np.save(folder / f"train_{name}.npy", array + np.float32(shift) if name == "clips" else array)
    description = json.loads((TINY / "dataset.json").read_text())
    description |= {"name": folder.name, "classes": list(classes), "splits": {"train": clips, "test": 2}}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    config = PretrainConfig(
        data=prepared(folder / "data"),
        out=folder / "run",
        epochs=1,
        batch_size=2,
        lr=0.01,
        device="cpu",
        model=MODEL,
    )
    pretrain(config)
    return replace(config, resume=True)


def refused(config, *parts):
    """Going on with `config` is refused with these parts in the message, and the run stays as it was."""
    before = {path.name: path.read_bytes() for path in config.out.iterdir()}
    with pytest.raises(InputError) as caught:
        (distill if isinstance(config, DistillConfig) else pretrain)(config)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert {path.name: path.read_bytes() for path in config.out.iterdir()} == before
    return message


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"lr": 0.02}, ("lr was 0.01 and is 0.02",)),
        ({"batch_size": 3}, ("batch_size was 2 and is 3",)),
        ({"seed": 1, "amp": True}, ("seed was 0 and is 1", "amp was False and is True")),
        ({"lr_milestones": (1,)}, ("lr_milestones was [250] and is [1]",)),
        ({"exchange_from": 2}, ("exchange_from was 151 and is 2",)),
        (
            {"model": replace(MODEL, modalities=("motion", "joint"))},
            ("model.modalities was ['joint', 'motion'] and is ['motion', 'joint']",),
        ),
        ({"model": replace(MODEL, temperature=0.1)}, ("model.temperature was 0.07 and is 0.1",)),
        ({"model": replace(MODEL, queue_size=16)}, ("model.queue_size was 8 and is 16",)),
    ],
)
def test_other_settings_are_refused_by_name(begun, changes, parts):
    refused(replace(begun, epochs=2, **changes), *parts)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"shift": 1.0}, "the dataset's fingerprint was"),
        ({"clips": 3}, "the dataset's clips was 4 and is 3"),
        ({"classes": "abc"}, "the dataset's classes was ['a', 'b'] and is ['a', 'b', 'c']"),
    ],
)
def test_another_dataset_is_refused(begun, changes, part, tmp_path):
    refused(replace(begun, epochs=2, data=prepared(tmp_path / "other", **changes)), part)


def test_the_same_dataset_elsewhere_may_be_gone_on_with_and_so_may_places_and_ends(begun, tmp_path):
    same = replace(begun, out=tmp_path / "run", resume=False)
    pretrain(same)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    pretrain(
        replace(same, out=moved, data=prepared(tmp_path / "other-name"), epochs=2, resume=True, compile="off")
    )
    state = load_checkpoint(moved)
    assert state["epoch"] == 2 and len((moved / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_setting_that_a_version_did_not_have_was_at_its_default(begun, tmp_path):
    state = load_checkpoint(begun.out)
    del state["config"]["sync_bn"], state["config"]["model"]["context"], state["dataset"]["fingerprint"]
    del state["dataset"]["clips"], state["dataset"]["shape"]
    out = tmp_path / "run"
    out.mkdir()
    torch.save(state, out / "checkpoint.pt")
    refused(replace(begun, out=out, epochs=2, model=replace(MODEL, context=False)), "model.context was True")
    pretrain(replace(begun, out=out, epochs=2))
    assert load_checkpoint(out)["epoch"] == 2


def test_another_teacher_is_refused_but_not_the_same_elsewhere(begun, tmp_path):
    config = DistillConfig(
        data=begun.data, teacher=begun.out, out=tmp_path / "student", students=("joint",), epochs=1,
        batch_size=2, lr=0.01, device="cpu",
    )  # fmt: skip
    distill(config)
    other = tmp_path / "other"
    pretrain(replace(begun, out=other, seed=5, resume=False))
    again = replace(config, epochs=2, resume=True)
    refused(
        replace(again, teacher=other), "the teacher that the run was begun with", str(begun.out), str(other)
    )
    refused(replace(again, temperature=0.2), "temperature was 0.07 and is 0.2")
    copy = tmp_path / "copy.pt"
    copy.write_bytes((begun.out / "checkpoint.pt").read_bytes())
    assert load_checkpoint(distill(replace(again, teacher=copy)))["epoch"] == 2


def test_damaged_lines_of_the_metrics_do_not_block_going_on(begun, tmp_path):
    out = tmp_path / "run"
    pretrain(replace(begun, out=out, resume=False))
    line = (out / "metrics.jsonl").read_bytes()
    (out / "metrics.jsonl").write_bytes(
        line + b"\n\0\0\0\n[]\n{}\n\xff\xfe\n" + line.replace(b"1", b"2", 1)[:40]
    )
    pretrain(replace(begun, out=out, epochs=2))
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == [1, 2]
    assert json.dumps(records[0]) + "\n" == line.decode()
