"""Disks that break under a command, and clips that are cut short while they are read."""

import errno
import os
import re
import shutil
from functools import partial
from types import SimpleNamespace

import pytest

from ikem_fast.data import Dataset, writer
from ikem_fast.train import load_checkpoint
from tests.faults.formats import prepare_words, sources
from tests.faults.runs import TINY, differences, finish, words
from tests.faults.seccomp import can_fail, fail
from tests.helpers import contents

needs_filter = pytest.mark.skipif(
    not can_fail(), reason="Linux on x86-64 and arm64 alone lets its calls fail"
)
STEPS = ("--max-steps", 6, "--exchange-from", "null", "--checkpoint-steps", 2)


def from_the_second_checkpoint_on(calls, error):
    from ikem_fast.train.keeper import Keeper

    keep = Keeper.keep

    def failing(self, began, progress, *rest):
        if progress.steps == 4:
            fail(calls, error)
        keep(self, began, progress, *rest)

    Keeper.keep = failing


@needs_filter
@pytest.mark.parametrize(
    ("calls", "error", "said"),
    [
        (("write",), errno.EDQUOT, r"Disk quota exceeded \([\d.]+ .B are free\)"),
        (("fsync",), errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_breaks_is_one_message_and_nothing_is_lost(calls, error, said, tmp_path):
    argv = words("pretrain", tmp_path / "run", *STEPS)
    status, errors = finish(argv, partial(from_the_second_checkpoint_on, calls, error))
    assert status == 2 and re.search(f"{said}; what was written before is whole", errors), errors
    assert "Traceback" not in errors
    assert load_checkpoint(tmp_path / "run")["step"] == 2
    assert finish(argv)[0] == 0
    assert finish(words("pretrain", tmp_path / "whole", *STEPS))[0] == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def with_free(count):
    """Have every disk say that so many bytes are free."""
    shutil.disk_usage = lambda _: SimpleNamespace(free=count)


def test_a_disk_without_room_for_a_checkpoint_is_told_of_ahead_of_the_training(tmp_path):
    argv = words("pretrain", tmp_path / "run", *STEPS)
    status, errors = finish(argv, partial(with_free, 1000))
    found = re.search(r"expected ([\d.]+) MB free on its disk for a checkpoint, .* found 0.001 MB", errors)
    assert status == 2 and found and not (tmp_path / "run" / "metrics.jsonl").exists(), errors
    assert finish(argv)[0] == 0
    size = (tmp_path / "run" / "checkpoint.pt").stat().st_size / 1e6
    assert 0.1 * size < float(found[1]) < size, "of so small a one, names and settings are the most"


def test_a_run_that_is_over_needs_no_room(tmp_path):
    argv = words("pretrain", tmp_path / "run", *STEPS)
    assert finish(argv)[0] == 0
    status, errors = finish([*argv, "--resume", "auto"], partial(with_free, 1000))
    assert status == 0, errors


@needs_filter
def test_a_disk_that_fills_up_under_a_preparation_is_told_of_with_what_is_needed(tmp_path):
    raw = sources("agcn", tmp_path)

    def full():
        with_free(1000)
        at_the_first_clip(("write",), errno.ENOSPC)

    status, errors = finish(prepare_words("agcn", raw, tmp_path / "out"), full)
    assert status == 2 and re.search(r"warning: up to [\d.]+ MB are needed for the clips, 0.001 MB", errors)
    assert re.search(r"No space left on device: up to [\d.]+ MB more are needed, 0.001 MB are", errors)


def test_a_disk_that_fails_tensorboard_is_told_of_in_a_line(tmp_path):
    def breaking():
        from tensorboard.summary.writer.record_writer import RecordWriter

        write = RecordWriter.write

        def fails(self, data):
            if b"loss" in data:
                raise OSError(errno.EIO, "Input/output error")
            write(self, data)

        RecordWriter.write = fails

    status, errors = finish(words("pretrain", tmp_path / "run", *STEPS), breaking)
    assert status == 0 and errors.count("Input/output error") == 1 and "Traceback" not in errors
    assert "warning: tensorboard takes no more figures, and the run goes on without it" in errors


def at_the_first_clip(calls, error):
    add = writer.DatasetWriter.add

    def failing(self, *clip):
        add(self, *clip)
        fail(calls, error)

    writer.CHECKPOINT_EVERY = 1
    writer.DatasetWriter.add = failing


@needs_filter
@pytest.mark.parametrize("calls", [("write",), ("fsync",), ("ftruncate", "write")], ids=str)
def test_a_preparation_goes_on_where_a_disk_broke(calls, tmp_path):
    raw = sources("agcn", tmp_path)
    status, errors = finish(
        prepare_words("agcn", raw, tmp_path / "out"), partial(at_the_first_clip, calls, errno.EIO)
    )
    assert status == 2 and "Input/output error" in errors and not (tmp_path / "out").exists()
    for name in ("out", "whole"):
        assert finish(prepare_words("agcn", raw, tmp_path / name))[0] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps files whole that are mapped")
def test_clips_that_are_cut_while_they_are_mapped_are_one_message(tmp_path):
    """The kernel ends a process that reads what is no longer there (SIGBUS)."""
    pytest.importorskip("ikem_fast._skeleton_io")
    data = shutil.copytree(TINY, tmp_path / "data")

    def cut_when_opened():
        get = Dataset.__getitem__

        def cut(self, split):
            os.truncate(data / "train_clips.npy", 0)
            return get(self, split)

        Dataset.__getitem__ = cut

    status, errors = finish(words("pretrain", tmp_path / "run", *STEPS, data=data), cut_when_opened)
    assert status == 2, errors
    assert "found one of the dataset cut short meanwhile" in errors and "Traceback" not in errors


def test_labels_may_go_while_a_run_reads_clips(tmp_path):
    data = shutil.copytree(TINY, tmp_path / "data")

    def gone_when_opened():
        get = Dataset.__getitem__

        def gone(self, split):
            for path in data.glob("train_[fln]*.npy"):
                os.truncate(path, 0)
            return get(self, split)

        Dataset.__getitem__ = gone

    assert finish(words("pretrain", tmp_path / "run", *STEPS, data=data), gone_when_opened)[0] == 0
