"""Ends of a process at one of the moments at which it touches files, as kill -9 there ends it."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.link", "os.truncate")


def dying(folder: Path, moment: int) -> Callable[[], None]:
    """Make what a process calls to be killed the `moment`-th time it touches a file below `folder`.

    Ahead of what it does there: from 0 on, moments are every state that its files can be left in, but for
    writes that are cut within.
    """

    def install():
        left = [moment]
        where = str(folder)

        def touched():
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1

        def look(event, arguments):
            if event in EVENTS and str(arguments[0]).startswith(where):
                touched()

        sync = os.fsync

        def synced(descriptor):
            touched()
            sync(descriptor)

        sys.addaudithook(look)
        os.fsync = synced

    return install
