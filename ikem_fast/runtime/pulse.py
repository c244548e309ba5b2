"""Which of several processes died or hangs, when one waits for a word in vain."""

import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch.distributed as dist

from ikem_fast.errors import InputError

BEAT = 1.0  # seconds between two signs of life
BLAME = "ikem-fast/blame"  # where the first to look leaves what it says
LOOK = 3.5  # seconds that signs of life are watched for, when something went wrong
GONE = (
    "expected an answer of the launcher of the processes (torchrun), found it gone; start again with "
    "--resume auto"
)
ASKING = timedelta(seconds=5)  # for the launcher to answer


class Pulse:
    """Leaves a sign of life of this process with the launcher, each second while the block runs.

    A process that is killed or stopped (SIGSTOP) leaves none; one that hangs does, but stays at its step.

    Args:
        store: that the processes share, of torch.distributed.
        rank, size: this process is `rank` of `size`.
        patience: seconds that a process waits for another, for the message.
    """

    def __init__(self, store: Any, rank: int, size: int, patience: float) -> None:
        self.store, self.rank, self.size, self.patience = store, rank, size, patience
        self.step = 0
        self.gone = False  # the launcher
        self.beats = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Pulse":
        self._beat()
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or not is_about_others(error):  # `diagnosis` wants the others to see this one
            self.stop()

    def follow(self, step: int) -> None:
        """Take note of the step to come. Raises InputError where the launcher is gone."""
        self.step = step
        if self.gone:
            raise InputError(GONE)

    def stop(self) -> None:
        """Leave no more signs."""
        self.over.set()
        self.thread.join()

    def diagnosis(self) -> str:
        """Say which process is to blame for a word that did not come, and what to do: as the first said it.

        Who looks later would find those silent, too, that have looked and ended.
        """
        try:
            self.store.set_timeout(ASKING)
            return self.store.compare_set(BLAME, "", self._blame()).decode()
        except RuntimeError:
            return GONE
        finally:
            self.stop()

    def _blame(self):
        before = self._seen()
        time.sleep(LOOK)
        after = self._seen()
        dead = [rank for rank in range(self.size) if rank != self.rank and before[rank][0] == after[rank][0]]
        late = [rank for rank in range(self.size) if after[rank][1] < self.step]
        named = dead or late or [rank for rank in range(self.size) if rank != self.rank]
        what = "no sign of life: it was killed, stopped, or ended with a message of its own"
        found = what if dead else f"none for {self.patience:g} seconds: it hangs"
        process = "process" if len(named) == 1 else "processes"
        return (
            f"expected a word from {process} {', '.join(map(str, named))} of {self.size} in step "
            f"{self.step + 1}, found {found}; start again with --resume auto"
        )

    def _run(self):
        try:
            while not self.over.wait(BEAT):
                self._beat()
        except RuntimeError:
            self.gone = True

    def _beat(self):
        self.beats += 1
        self.store.set(f"ikem-fast/{self.rank}", f"{self.beats} {self.step}")

    def _seen(self):
        """(beats, step) of each process."""
        names = [f"ikem-fast/{rank}" for rank in range(self.size)]
        found = [self.store.get(name).decode() if self.store.check([name]) else "0 0" for name in names]
        return [tuple(map(int, text.split())) for text in found]


def is_about_others(error: BaseException) -> bool:
    """Tell whether an error is about a word between processes; gloo's have no type of their own.

    Example:
        is_about_others(RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer"))  # True
    """
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        word in text for word in ("gloo", "connection closed by peer", "nccl", "tcpstore")
    )
