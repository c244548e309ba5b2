"""Runs that are killed or told to stop anywhere go on to the same bits, metrics and scalars."""

import os
import random
import signal
import time

import pytest

from ikem_fast.train import load_checkpoint
from tests.faults.runs import differences, finish, start, wait_for, words

STEPS = ("--max-steps", 9, "--exchange-from", 3, "--checkpoint-steps", 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run through both phases."""
    out = tmp_path_factory.mktemp("whole") / "run"
    status, said = finish(words("pretrain", out, *STEPS))
    assert status == 0, said
    return out


def take_time():
    """A step takes so long that a run does not end ahead of what is to end it."""
    from ikem_fast.train.step import Step

    run = Step._run

    def slowed(self, *batch, **options):
        time.sleep(0.1)
        return run(self, *batch, **options)

    Step._run = slowed


def test_a_run_that_is_killed_goes_on_to_the_same(whole, tmp_path):
    """Kill −9 somewhere in phase 1, then in phase 2."""
    out, draw = tmp_path / "run", random.Random(os.getpid())
    for lines in (1, 3):
        process = start(words("pretrain", out, *STEPS), take_time)
        wait_for(process, out, lines)
        time.sleep(draw.random() / 10)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was to be killed, and ended by itself"
    assert finish(words("pretrain", out, *STEPS))[0] == 0
    assert differences(whole, out) == []


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP", "SIGINT"])
def test_a_signal_ends_a_run_when_its_state_is_on_disk(name, tmp_path):
    process = start(words("pretrain", tmp_path / "run", "--max-steps", 500, "--exchange-from", "null"))
    wait_for(process, tmp_path / "run", 1)
    os.kill(process.pid, getattr(signal, name))
    process.join(60)
    said = process.errors.read_text()
    assert process.exitcode == 75, said
    assert f"stopped at a signal ({name})" in said and "--resume auto" in said
    step = load_checkpoint(tmp_path / "run")["step"]
    assert 2 <= step < 500 and f"a checkpoint of step {step}" in said


def test_a_run_that_was_told_to_stop_within_an_epoch_goes_on_to_the_same(whole, tmp_path):
    def stop_behind_a_step():
        from ikem_fast.train.step import Step

        run = Step._run

        def stopped(self, *batch, **options):
            os.kill(os.getpid(), signal.SIGTERM)
            return run(self, *batch, **options)

        Step._run = stopped

    for step in (1, 2):
        assert finish(words("pretrain", tmp_path / "run", *STEPS), stop_behind_a_step)[0] == 75
        assert load_checkpoint(tmp_path / "run")["step"] == step
    assert finish(words("pretrain", tmp_path / "run", *STEPS))[0] == 0
    assert differences(whole, tmp_path / "run") == []


def never_end_a_step():
    from ikem_fast.train.step import Step

    def wait(self, *batch, **options):
        os.write(2, b"in a step\n")
        time.sleep(60)

    Step._run = wait


def test_a_second_interrupt_ends_at_once(tmp_path):
    """In a step that does not end: the first waits for it, the second does not."""
    process = start(words("pretrain", tmp_path / "run", *STEPS), before=never_end_a_step)
    wait_for(process, tmp_path, 1, "errors.txt")
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    process.join(1)
    assert process.is_alive()
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    said = process.errors.read_text()
    assert process.exitcode == 130 and time.monotonic() - began < 20
    assert "Ctrl-C again ends at once" in said and "Traceback" not in said


def test_a_second_run_in_a_folder_is_refused_and_a_dead_ones_lock_is_not(tmp_path):
    out = tmp_path / "run"
    first = start(words("pretrain", out, *STEPS), before=never_end_a_step)
    wait_for(first, tmp_path, 1, "errors.txt")
    status, said = finish(words("pretrain", out, *STEPS))
    assert status == 2 and "another run is training into this folder" in said
    first.kill()
    first.join()
    assert finish(words("pretrain", out, "--max-steps", 1, "--exchange-from", "null"))[0] == 0
