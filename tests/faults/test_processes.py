"""Two processes of one run: one is killed or stopped, or sees something else than the other."""

import os
import signal
import time

import pytest

from ikem_fast.runtime.pulse import is_about_others
from tests.faults.ranks import joining
from tests.faults.runs import start, wait_for, words


def group(out, *more, size=2, last=()):
    """The processes of a run that only minutes end; those of `last` are the last one's own settings."""
    argv = words("pretrain", out, "--max-minutes", 10, "--exchange-from", "null", "--patience", 2, *more)
    return [
        start([*argv, *(last if rank == size - 1 else ())], before, f"errors{rank}.txt")
        for rank, before in enumerate(joining(size))
    ]


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP"])
def test_one_that_dies_or_does_not_answer_ends_the_other_with_its_number(name, tmp_path):
    first, second = group(tmp_path / "run", "--checkpoint-steps", 1)
    try:
        wait_for(first, tmp_path / "run", 1)
        os.kill(second.pid, getattr(signal, name))
        began = time.monotonic()
        first.join(60)
        said = first.errors.read_text()
        assert first.exitcode == 2, said
        assert "expected a word from process 1 of 2" in said and "no sign of life" in said
        assert time.monotonic() - began < 40
    finally:
        for process in (first, second):
            process.kill()
            process.join()


def test_one_that_has_other_settings_is_refused_at_the_start(tmp_path):
    both = group(tmp_path / "run", last=("--lr", "0.5"))
    for process in both:
        process.join(60)
        assert process.exitcode == 2
        said = process.errors.read_text()
        assert "process 1: expected what process 0 has, setting lr 0.002, found 0.5" in said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_signal_to_one_ends_both_at_the_same_step(tmp_path):
    first, second = group(tmp_path / "run")
    wait_for(first, tmp_path / "run", 1)
    os.kill(second.pid, signal.SIGTERM)
    for process in (first, second):
        process.join(60)
        assert process.exitcode == 75, process.errors.read_text()


def test_errors_of_something_else_are_not_blamed_on_others():
    assert not is_about_others(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert is_about_others(RuntimeError("[../third_party/gloo/x.cc:81] Timed out waiting 8000ms"))
