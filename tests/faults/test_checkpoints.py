"""Checkpoints that were damaged: refused by name, and the one before is offered and used."""

import json
import os
import random
import shutil
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ikem_fast.errors import InputError
from ikem_fast.runtime.checkpoint import save_checkpoint
from ikem_fast.train import load_checkpoint, pretrain
from tests.faults.runs import settings


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six steps with all its checkpoints."""
    out = tmp_path_factory.mktemp("checkpoints") / "run"
    pretrain(settings(out, max_steps=6, checkpoint_steps=1, keep_last=3))
    return out


@pytest.fixture
def copy(run, tmp_path):
    return Path(shutil.copytree(run, tmp_path / "copy"))


def same(first, second):
    for part in ("model", "optimizer"):
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)


def test_no_flipped_bit_is_read(run, tmp_path):
    """Of every byte of headers, settings and ends, and of a sample of those of tensors, a bit each."""
    whole = (run / "checkpoint.pt").read_bytes()
    damaged = tmp_path / "checkpoint.pt"
    draw = random.Random(0)
    ends = [*range(64), *range(len(whole) - 400, len(whole))]
    for place in {*ends, *draw.sample(range(len(whole)), 300)}:
        content = bytearray(whole)
        content[place] ^= 1 << draw.randrange(8)
        damaged.write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.pt"):
            load_checkpoint(damaged)
    damaged.write_bytes(whole)
    assert load_checkpoint(damaged)["step"] == 6


@pytest.mark.parametrize(
    "spoil", ["cut by a byte", "cut", "cut of its digest", "zeroed", "unsealed", "longer", "empty"]
)
def test_what_is_not_whole_is_refused(spoil, copy):
    path = copy / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut by a byte": whole[:-1],
            "cut": whole[: len(whole) // 2],
            "cut of its digest": whole[:-81],
            "zeroed": whole[:4096] + bytes(4096) + whole[8192:],
            "unsealed": whole[:-83] + bytes(83),  # what an archive without a comment ends with, and zeros
            "longer": whole + b"\0",
            "empty": b"",
        }[spoil]
    )
    with pytest.raises(InputError, match=r"the one before it is .*checkpoint-00000005\.pt, --resume auto"):
        load_checkpoint(copy)


def test_a_run_goes_on_from_the_newest_that_is_whole(run, copy, capsys):
    """Two of three are damaged; what comes of it is what came of the whole ones."""
    for name in ("checkpoint.pt", "checkpoint-00000005.pt"):
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
    config = settings(copy, max_steps=6, checkpoint_steps=1, keep_last=3)
    with pytest.raises(InputError, match="damaged"):
        pretrain(replace(config, resume=True))
    pretrain(replace(config, resume="auto"))
    assert "going on from" in capsys.readouterr().err
    same(load_checkpoint(copy), load_checkpoint(run))
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (run, copy)]
    assert len(lines[0]) == len(lines[1]) == 3


def test_where_none_is_whole_nothing_is_begun_anew(copy):
    for path in copy.glob("checkpoint*.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    before = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="no earlier checkpoint is whole"):
        pretrain(settings(copy, max_steps=6, resume="auto"))
    assert (copy / "metrics.jsonl").read_bytes() == before


def test_a_missing_checkpoint_wipes_no_history(run, copy):
    (copy / "checkpoint.pt").unlink()
    history = (copy / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"found none, but .*checkpoint-00000005.pt; .*--resume auto"):
        pretrain(settings(copy, max_steps=6, resume=True))
    for path in copy.glob("checkpoint-*.pt"):
        path.unlink()
    pretrain(settings(copy, max_steps=2, resume="auto"))
    assert (copy / "metrics-1.jsonl").read_bytes() == history
    assert len((copy / "metrics.jsonl").read_text().splitlines()) == 1


def steps_kept(out):
    return sorted(load_checkpoint(path)["step"] for path in out.glob("checkpoint*.pt"))


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, [6, 7]),
        ({"keep_last": 1}, [7]),
        ({"keep_last": 4}, [4, 5, 6, 7]),
        ({"keep_every": 3}, [3, 6, 7]),
        ({"keep_last": 1, "keep_every": 2}, [2, 4, 6, 7]),
    ],
)
def test_as_many_checkpoints_are_kept_as_asked_for(changes, kept, tmp_path):
    pretrain(settings(tmp_path, max_steps=7, checkpoint_steps=1, **changes))
    assert steps_kept(tmp_path) == kept


def test_the_best_is_kept_and_known_after_a_stop(tmp_path):
    config = settings(tmp_path, epochs=6, keep_best=True, lr=0.05)
    pretrain(replace(config, epochs=3))
    pretrain(replace(config, resume=True))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    lowest = min(records, key=lambda record: record["loss"])
    assert load_checkpoint(tmp_path / "checkpoint-best.pt")["step"] == lowest["step"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no limit of a file's size")
def test_wherever_a_disk_ends_it_is_said(run, tmp_path):
    """The system itself refuses what is written beyond a limit, each time a few bytes later."""
    import resource

    state, model = load_checkpoint(run), torch.nn.Linear(3, 2)
    parts = {name: state[name] for name in ("kind", "dataset", "epoch", "step", "seconds")}
    parts |= {"config": settings(run), "model_config": settings(run).model, "model": model,
              "optimizer": torch.optim.SGD(model.parameters())}  # fmt: skip
    save_checkpoint(tmp_path / "a.pt", **parts)
    whole = (tmp_path / "a.pt").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in range(0, len(whole), len(whole) // 40):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(OSError, match="File too large"):
                save_checkpoint(tmp_path / "a.pt", **parts)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (tmp_path / "a.pt").read_bytes() == whole and len(list(tmp_path.iterdir())) == 1


def crafted(path, run, **changes):
    torch.save(load_checkpoint(run) | changes, path)
    return path


class Code:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/ikem-fast-code-ran"),))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": 99}, "version 1 or 2, found 99"),
        ({"kind": "\x1b[2Jkind"}, r"found \\x1b"),
        ({"model": {"weight": torch.zeros(1).expand(1 << 40)}}, "something else"),
        ({"model": {"weight": Code()}}, "more than tensors"),
        ({"epoch": None}, "'epoch' in it, found one of type NoneType"),
    ],
)
def test_a_crafted_one_is_one_message(changes, said, run, tmp_path):
    with pytest.raises(InputError, match=said):
        load_checkpoint(crafted(tmp_path / "crafted.pt", run, **changes))
    assert not Path("/tmp/ikem-fast-code-ran").exists()


def test_an_archive_that_expands_is_refused_before_it_does(run, tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(1 << 28))
    with pytest.raises(InputError, match="found a compressed"):
        load_checkpoint(path)


def test_an_archive_whose_sizes_lie_is_refused(run, tmp_path):
    """The first member declares 4 GB in the directory at the end."""
    content = bytearray((run / "checkpoint.pt").read_bytes())
    entry = content.index(b"PK\x01\x02")
    struct.pack_into("<II", content, entry + 20, 0xFFFFFFF0, 0xFFFFFFF0)
    comment = content.index(b"PK\x05\x06", entry) + 20
    path = tmp_path / "lies.pt"
    path.write_bytes(content[:comment] + b"\0\0")  # no digest, as an attacker leaves it out
    with pytest.raises(InputError):
        load_checkpoint(path)
