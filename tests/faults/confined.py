"""Work on files of strangers in a process that is watched: what it said, took, and touched."""

import contextlib
import io
import multiprocessing
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ikem_fast.errors import InputError

MEGABYTES = 512  # that a file may take beyond what the process has
SECONDS = 10  # of computing that a file may take
PROGRAMS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect")
NAMES = (
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "shutil.rmtree",
)


@dataclass(frozen=True)
class Outcome:
    """What became of a file.

    said: messages of errors and of the command; None where the process died.
    problem: what must not be: a traceback, a hang, a program run, a file touched elsewhere; "" without.
    megabytes: memory beyond what there was.
    """

    said: str | None
    problem: str
    megabytes: float = 0.0


def confined(
    tries: Iterable[tuple[str, Callable[[], object]]], folder: Path
) -> Iterator[tuple[str, Outcome]]:
    """Do each in one process, which may write below `folder` alone; where it dies, another goes on."""
    left = list(tries)
    while left:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_work, args=(left, folder, sender))
        process.start()
        sender.close()
        try:
            while left:
                outcome = receiver.recv()
                yield left.pop(0)[0], outcome
        except EOFError:
            process.join()
            yield left.pop(0)[0], Outcome(None, f"the process died, with status {process.exitcode}")
        process.join()


def _work(tries, folder, sender):
    touched = []
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(lambda event, arguments: _look(event, arguments, folder, touched))
    for _, work in tries:
        touched.clear()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _kilobytes("VmRSS")
        room = _kilobytes("VmSize") + 2 * 1024 * MEGABYTES
        resource.setrlimit(resource.RLIMIT_AS, (room * 1024, resource.RLIM_INFINITY))
        said, problem = _tried(work)
        took = (_kilobytes("VmHWM") - before) / 1024
        if not problem and touched:
            problem = f"touched {touched[:3]}"
        if not problem and took > MEGABYTES:
            problem = f"took {took:.0f} MB"
        sender.send(Outcome(said, problem, took))


def _tried(work):
    """Do it; what was said, and what is wrong with that."""
    out = io.StringIO()
    signal.signal(signal.SIGPROF, _late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            work()
        said = out.getvalue()
    except InputError as error:
        said = f"{out.getvalue()}{error}\n"
    except BaseException:
        return out.getvalue(), traceback.format_exc()[-1500:]
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    lines = said.split("\n")
    if not all(line.isprintable() for line in lines):
        return said, f"sent to the terminal: {said[:500]!r}"
    if any(len(line) > 5000 for line in lines):
        return said, "a message of more than 5000 characters"
    return said, ""


def _late(*_):
    raise TimeoutError(f"no answer in {SECONDS} seconds")


def _look(event, arguments, folder, touched):
    """Note programs that are run, and files that are touched outside the folder."""
    if event.startswith(PROGRAMS):
        touched.append((event, *map(repr, arguments[:2])))
    elif event == "open":
        path, _, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if writes and not isinstance(path, int):
            _note(event, path, folder, touched)
    elif event in NAMES:
        _note(event, arguments[0], folder, touched)


def _note(event, path, folder, touched):
    path = os.path.realpath(os.path.join(os.getcwd(), os.fsdecode(path)))
    allowed = (str(folder.resolve()), "/proc/self", f"/proc/{os.getpid()}", "/dev/null")
    if not path.startswith(allowed):
        touched.append((event, path))


def _kilobytes(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0
