"""Disks that break under a command, and clips that are cut short while they are read."""

import errno
import os
import shutil
from functools import partial

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
    [(("write",), errno.EDQUOT, "Disk quota exceeded"), (("fsync",), errno.EIO, "Input/output error")],
)
def test_a_disk_that_breaks_is_one_message_and_nothing_is_lost(calls, error, said, tmp_path):
    argv = words("pretrain", tmp_path / "run", *STEPS)
    status, errors = finish(argv, partial(from_the_second_checkpoint_on, calls, error))
    assert status == 2 and f"{said}; what was written before is whole" in errors and "Traceback" not in errors
    assert load_checkpoint(tmp_path / "run")["step"] == 2
    assert finish(argv)[0] == 0
    assert finish(words("pretrain", tmp_path / "whole", *STEPS))[0] == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


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
