"""Signals that come at an awkward moment."""

import io
import os
import signal

from ikem_fast.runtime.signals import StopSignals


class Interrupted(io.RawIOBase):
    """A file in whose writing Ctrl-C comes."""

    def writable(self):
        return True

    def write(self, data):
        os.kill(os.getpid(), signal.SIGINT)
        return len(data)


def test_one_that_comes_while_errors_are_written_is_taken_note_of(monkeypatch, capfd):
    """Buffered writers refuse to be called from a handler that came in the middle of them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a shell
    with monkeypatch.context() as patch, StopSignals() as signals:
        errors = io.TextIOWrapper(io.BufferedWriter(Interrupted()))
        patch.setattr("sys.stderr", errors)
        errors.write("step 2")
        errors.flush()
        assert signals.received == "SIGINT"
        errors.detach()
    signal.signal(signal.SIGINT, before)
    assert "stopping behind this step" in capfd.readouterr().err
