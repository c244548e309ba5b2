"""Calls of the system that fail from now on, as they do where a disk is broken or a quota used up.

The kernel itself answers them with the error: a filter (seccomp) is put in front of this process's calls, for
good, so that it belongs in a process of its own.
"""

import ctypes
import errno
import platform
import struct
import sys

NUMBERS = {  # call → its number on x86-64 and on arm64
    "write": (1, 64), "pwrite64": (18, 68), "writev": (20, 66), "fsync": (74, 82), "preadv": (295, 69),
    "ftruncate": (77, 46),
}  # fmt: skip
SECCOMP = {"x86_64": 317, "aarch64": 277}
WRITES = ("write", "pwrite64", "writev")
_LOAD, _EQUAL, _MORE, _RETURN = 0x20, 0x15, 0x25, 0x06  # BPF: of a word, jumps, the answer
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
_NO_NEW_PRIVILEGES, _FILTER, _ALL_THREADS = 38, 1, 1


def can_fail() -> bool:
    """Whether this system takes such a filter."""
    return sys.platform == "linux" and platform.machine() in SECCOMP


def fail(calls: tuple[str, ...], error: int = errno.EIO) -> None:
    """Have calls fail, of all threads; writes to descriptors above 2 alone.

    Raises OSError where the system does not let it.
    """
    which = 0 if platform.machine() == "x86_64" else 1
    program = [(_LOAD, 0, 0, 0)]  # the call's number
    for name in calls:
        number = NUMBERS[name][which]
        answer = (_RETURN, 0, 0, _ERROR | error)
        if name in WRITES:
            program += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, 16),
                (_MORE, 0, 1, 2),
                answer,
                (_RETURN, 0, 0, _ALLOW),
            ]
        else:
            program += [(_EQUAL, 0, 1, number), answer]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    description = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.syscall(SECCOMP[platform.machine()], _FILTER, _ALL_THREADS, description):
        raise OSError(ctypes.get_errno(), "no filter of calls")
