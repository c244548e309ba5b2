"""Being told to stop: signals that a run ends at, as soon as its state is on disk."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType

# A person, a scheduler that wants the machine, Slurm ahead of a limit, a lost terminal.
NAMES = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")


class StopSignals:
    """Take note of signals to stop while the block runs, in place of ending at once: a context manager.

    The second SIGINT ends the block at once, by KeyboardInterrupt, and a third the process. Signals that are
    ignored when the block begins (as under nohup) stay ignored. In a thread other than the main one nothing
    is done, for Python delivers no signals there.

    Example:
        with StopSignals() as signals:
            while not signals.received:
                step()
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self.interrupts = 0
        self.before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for name in NAMES:
                number = getattr(signal, name, None)  # Windows has few
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self.before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.interrupts += number == signal.SIGINT
        if self.interrupts > 2:
            os._exit(128 + signal.SIGINT)
        if self.interrupts > 1:
            raise KeyboardInterrupt
        if self.received is None:
            self.received = signal.Signals(number).name
            if number == signal.SIGINT:
                with contextlib.suppress(OSError):  # past sys.stderr, which may be busy
                    os.write(2, b"\nikem-fast: stopping behind this step; Ctrl-C again ends at once\n")
