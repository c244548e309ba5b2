"""Pickles of NumPy arrays and plain containers, of which nothing else can come, and no code is run.

A pickle is a program for a small stack machine, which may call whatever can be imported. Here its
instructions are read first: those that numbers, texts, lists, tuples, dicts and sets are written with
(protocols 2 to 5), and no others. Long bytes, the values of arrays, stay in the file until they are asked
for, and sizes are held against what is left of it before any memory is. What remains, some hundred bytes an
array, is run by Python's own unpickler, to which the few functions that NumPy's arrays are made by, by their
names in NumPy 1 and 2, are stand-ins of this module; nothing is imported, anything else is refused by name.
Source: the comments of Python's `pickletools`.
"""

import io
import pickle
import pickletools
import re
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ikem_fast.data.formats.npy import BROKEN
from ikem_fast.data.formats.stored import LeftBytes, StoredArray, StoredBytes, StoredType
from ikem_fast.data.headers import MAGIC
from ikem_fast.data.native import _skeleton_io
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError, printable

MAX_PROGRAM_BYTES = 1 << 28  # without what is left in the file; the pickles of NTU RGB+D 120 have 20 MB
MAX_TUPLES = 1 << 23  # bytes that may make one; the pickles of NTU RGB+D 120 have a million
_LEFT_BYTES = 1 << 10  # from here on, bytes are left in the file
_BLOCK_BYTES = 1 << 12  # of instructions, that are read at a time
_MAX_NAME = 300
_TUPLES = (b"t", b"\x85", b"\x86", b"\x87")  # the instructions that make one
_SHALLOW = 2_000  # so many deep in one another can be hashed on any stack
_STACK_BYTES = 256  # that hashing takes for each, and some: CPython takes 64
_CONTAINERS = {dict, list, tuple, set, frozenset}
_DEEPEST = 32  # in one another
_MAX_INTEGER = 16  # bytes
_SMALL_FILE = 1 << 18  # which has no use for memo numbers of more than two bytes
# The memo is a list, as long as the largest number that is put in it: 3 bytes of that are half a GiB at most.
_MEMO_OF_SMALL_FILE, _MEMO_OF_LARGE_FILE = 1 << 16, 1 << 24

_SHORT = range(64)  # bytes of a text, such as a name, that is plain
_LONGEST = 5 + len(_SHORT)  # bytes of one of these
_STOP, _FRAME, _GLOBAL, _LONG1, _LONG_PUT = b".\x95c\x8ar"


def latin_of_utf8(units: np.ndarray) -> np.ndarray:
    """Decode the bytes that protocol 2, which has none of its own, keeps as a text of these characters.

    units: (N,) uint8, UTF-8 of characters below 256; may be written to.

    Returns (K,) uint8, an array of one's own.

    Raises ValueError where it is something else.

    Example:
        latin_of_utf8(np.frombuffer(bytearray("aé".encode()), np.uint8))  # array([97, 233], dtype=uint8)
    """
    if _skeleton_io:
        return units[: _skeleton_io.latin_of_utf8(units)]
    return np.frombuffer(bytearray(units.tobytes().decode("utf-8").encode("latin-1")), np.uint8)


# Instructions of a fixed length and short texts, as many as there are in a row.
_FIXED = rb"[(01N\x88\x89\]})\x8faesu\x90\x91t\x85\x86\x87\x94\x93\x81Rb]|[Kqh].|M..|[Jj].{4}|G.{8}"


def _short_texts(code, length):
    sizes = (re.escape(size.to_bytes(length, "little")) + b".{%d}" % size for size in _SHORT)
    return re.escape(code) + b"(?:" + b"|".join(sizes) + b")"


_TEXTS = _short_texts(b"\x8c", 1) + b"|" + _short_texts(b"X", 4)
_PLAIN = {
    memo: re.compile(rb"(?:" + _FIXED + b"|" + _TEXTS + rb"|" + puts + rb")*+", re.DOTALL)
    for memo, puts in ((_MEMO_OF_SMALL_FILE, rb"r..\0\0"), (_MEMO_OF_LARGE_FILE, rb"r...\0"))
}


def plain_run(block: bytes, at: int, memo: int) -> tuple[int, int]:
    """Where the plain instructions end that are in a block from a place on, and how many at most make tuples.

    memo: below which memo numbers of four bytes are plain: `_MEMO_OF_SMALL_FILE` or `_MEMO_OF_LARGE_FILE`.
    """
    if _skeleton_io:
        return _skeleton_io.plain_run(block, at, memo)
    run = _PLAIN[memo].match(block, at)
    end = run.end() if run else at
    return end, sum(block.count(instruction, at, end) for instruction in _TUPLES)


# Instruction → bytes of the length that follows it, and whether what it counts is a text of UTF-8.
_COUNTED = {
    code: (size, text)
    for codes, size, text in (
        (b"\x8c", 1, True), (b"X", 4, True), (b"\x8d", 8, True),
        (b"CU", 1, False), (b"BT", 4, False), (b"\x8e\x96", 8, False),
    )
    for code in codes
}  # fmt: skip


def load_pickle(file: SourceFile) -> Any:
    """Read a pickle of arrays, numbers, texts and plain containers.

    Returns what it holds; arrays are `StoredArray`, ordered dicts are dicts.

    Raises InputError naming the file where it is none, broken, or holds anything else: then by its name, and
    nothing of it was run.
    """
    try:
        stored = StoredBytes(file)
        vetted = _Program(file, stored)
        program = vetted.read_whole()

        value = _with_room(_Unpickler(program, vetted.left, file, stored).load, vetted.tuples)
        if type(value) in _CONTAINERS:
            _refuse_depth(value)
        return value
    except InputError:
        raise
    except (*BROKEN, *_MEANT_BY_UNPICKLERS) as error:
        raise InputError(
            f"{file}: expected a pickle of arrays and plain containers, found: {printable(error)}"
        ) from None


_MEANT_BY_UNPICKLERS = (
    pickle.UnpicklingError, TypeError, IndexError, OverflowError, struct.error, AttributeError
)  # fmt: skip


def _with_room(run, tuples):
    """run() where the stack holds the hash of so many tuples, as deep in one another as they could be.

    Hashing has no limit of depth, and a stack that is too small for it ends the process.
    """
    if tuples <= _SHALLOW:
        return run()
    if tuples > MAX_TUPLES:
        raise ValueError(f"more than {MAX_TUPLES} tuples")
    size = threading.stack_size(_STACK_BYTES * tuples + (1 << 24) & -(1 << 16))
    try:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run).result()
    finally:
        threading.stack_size(size)


def _refuse_depth(value):
    """Raise ValueError where containers lie too deep in one another for what reads them later."""
    level = [value]
    for _ in range(_DEEPEST):
        inside = {}
        for container in level:
            if type(container) is dict:
                inside |= {id(key): key for key in container if type(key) is tuple}
                container = container.values()
            if not _CONTAINERS.isdisjoint(map(type, container)):
                inside |= {id(item): item for item in container if type(item) in _CONTAINERS}
        if not inside:
            return
        level = list(inside.values())
    raise ValueError(f"containers more than {_DEEPEST} deep in one another")


class _Program:
    """The instructions of a pickle; in place of long bytes there is their number in `left`.

    tuples: how many of them make one, at most.
    """

    def __init__(self, file, stored):
        self.file, self.stored, self.size = file, stored, file.size
        self.left, self.tuples = [], 0
        self.block, self.start, self.at = b"", 0, 0  # where the block is in the file, where we are in it

    def read_whole(self):
        begin = self.read(2)
        if MAGIC.startswith(begin):
            raise ValueError("a NumPy array, of which the name ends in .npy as a rule")
        if begin[:1] != b"\x80" or not 2 <= begin[1] <= 5:
            raise ValueError(f"no pickle of protocol 2 to 5, but bytes that begin with {begin!r}")
        parts, size, code = [begin], 0, 0
        memo = _MEMO_OF_SMALL_FILE if self.size < _SMALL_FILE else _MEMO_OF_LARGE_FILE
        while code != _STOP:
            if len(self.block) - self.at < _LONGEST:
                self.fetch(1)
            end, tuples = plain_run(self.block, self.at, memo)
            self.tuples += tuples
            parts.append(self.block[self.at : end])
            self.at = end
            if len(self.block) - end >= _LONGEST or self.start + len(self.block) >= self.size:
                code = self.byte(0)
                parts.append(self.instruction(code))
            size += len(parts[-1]) + len(parts[-2])
            if size > MAX_PROGRAM_BYTES:
                raise ValueError(f"more than {MAX_PROGRAM_BYTES} bytes of instructions")
        return b"".join(parts)

    def instruction(self, code):
        """Read an instruction that is not of a fixed length."""
        if code in _COUNTED:
            return self.counted(*_COUNTED[code])
        if code == _STOP:
            return self.read(1)
        if code == _FRAME:  # how much to read at a time
            self.read(9)
            return b""
        if code == _GLOBAL:
            return self.line(1) + self.line(0)
        if code == _LONG1:
            if self.byte(1) > _MAX_INTEGER:
                raise ValueError(f"an integer of {self.byte(1)} bytes")
            return self.read(2 + self.byte(1))
        if code == _LONG_PUT:
            number = int.from_bytes(self.read(5)[1:], "little")
            raise ValueError(f"number {number} of a memo, in a file of {self.size} bytes")
        if plain_run(bytes([code]) + bytes(_LONGEST), 0, _MEMO_OF_LARGE_FILE)[0]:
            raise EOFError("the end of the file within an instruction")
        known = pickletools.code2op.get(chr(code))
        found = f"the instruction {known.name}" if known else f"byte {code:#04x}"
        raise self.refusal(found)

    def refusal(self, found):
        return InputError(
            f"{self.file}: expected a pickle of NumPy arrays and plain containers alone, found {found}; "
            "nothing of it was run"
        )

    def counted(self, length, is_text):
        """Bytes or a text of a declared size: read, or left in the file if they are many."""
        head = 1 + length
        self.byte(length)
        size = int.from_bytes(self.block[self.at + 1 : self.at + head], "little")
        place = self.start + self.at + head
        if size > self.size - place:
            raise EOFError(f"{size} bytes declared, {self.size - place} left")
        if size < _LEFT_BYTES:
            return self.read(head + size)
        self.left.append(LeftBytes(place, size, latin_of_utf8 if is_text else None))
        self.at += head + size
        return b"J" + struct.pack("<i", len(self.left) - 1) + b"Q"

    def fetch(self, size):
        """Have the next bytes in the block, and as many as that of it at least."""
        place = self.start + self.at
        left = self.size - place
        if size > left:
            raise EOFError(
                f"{size} bytes declared, {max(left, 0)} left" if size > 1 else "the end of the file"
            )
        kept = self.block[self.at :]
        more = min(max(size, _BLOCK_BYTES), left) - len(kept)
        if more > 0:
            kept += self.stored.read(place + len(kept), more)
        self.block, self.start, self.at = kept, place, 0

    def byte(self, ahead):
        if self.at + ahead >= len(self.block):
            self.fetch(1 + ahead)
        return self.block[self.at + ahead]

    def read(self, size):
        end = self.at + size
        if end > len(self.block):
            self.fetch(size)
            end = size
        content = self.block[self.at : end]
        self.at = end
        return content

    def line(self, skip):
        """The rest of a line, after so many bytes that are none of its."""
        most = skip + _MAX_NAME
        if self.block.find(b"\n", self.at + skip) < 0:
            self.fetch(min(most, self.size - self.start - self.at))
        end = self.block.find(b"\n", self.at + skip, self.at + most)
        if end < 0:
            raise ValueError(f"a name of more than {_MAX_NAME} bytes")
        return self.read(end + 1 - self.at)


class _StandIn:
    """What a pickle finds where it looks for one of NumPy's functions."""

    __slots__ = ("_call", "_name")

    def __init__(self, name, call):
        self._name, self._call = name, call

    def __call__(self, *arguments):
        return self._call(*arguments)

    def __setstate__(self, state):
        raise ValueError(f"a state for {self._name}, which takes none")


class _Unpickler(pickle.Unpickler):
    """Runs a program in which long bytes are numbers in `left`; finds stand-ins alone."""

    def __init__(self, program, left, file, stored):
        framed = b"\x80\x05\x95" + struct.pack("<Q", len(program) - 2) + program[2:]  # read at once
        super().__init__(io.BytesIO(framed), fix_imports=False, encoding="latin-1")
        self._left, self._file, self._stored = left, file, stored
        self._array_class = _StandIn("numpy.ndarray", _refuse_call)
        self._found = {
            "ndarray": self._array_class,
            "_reconstruct": _StandIn("_reconstruct", self._reconstruct),
            "_frombuffer": _StandIn("_frombuffer", self._from_buffer),
            "scalar": _StandIn("scalar", self._scalar),
            **{name: _StandIn(name, call) for name, call in _PLAIN_CALLS.items()},
        }

    def find_class(self, module, name):
        full = f"{module}.{name}"
        if full not in _FUNCTIONS:
            raise InputError(
                f"{self._file}: expected a pickle of NumPy arrays and plain containers alone, found one that "
                f"calls {printable(full)}; nothing of it was run"
            )
        return self._found[_FUNCTIONS[full]]

    def persistent_load(self, number):
        return self._left[number]

    def _reconstruct(self, kind, *_):
        if kind is not self._array_class:
            raise ValueError("an array of another class than numpy.ndarray")
        return StoredArray(self._file, self._stored)

    def _from_buffer(self, values, dtype, shape, order, axes=None):
        """Take an array of protocol 5; newer NumPy has one with exchanged axes as it lies in memory."""
        array = StoredArray(self._file, self._stored)
        array.set(shape, dtype, order == "F", values)
        if order == "K" and axes is not None:
            array.exchange(axes)
        return array

    def _scalar(self, dtype, values):
        array = self._from_buffer(values, dtype, (), "C")
        if array.dtype.itemsize > _LEFT_BYTES:
            raise ValueError(f"a number of {array.dtype.itemsize} bytes")
        return array.load()[()].item()


def _refuse_call(*_):
    raise ValueError("a call of numpy.ndarray, a class that arrays name")


def _encode(text, encoding):
    """A text that was left is one of UTF-8, whose bytes become those that are meant when they are read."""
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str | LeftBytes):
        raise ValueError("an encoding other than Latin-1")
    return text if isinstance(text, LeftBytes) else text.encode("latin-1")


def _ordered(*pairs):
    if pairs:
        raise ValueError("an ordered dict that is not empty at first")
    return {}


def _as_bytes(*values):
    if len(values) > 1 or not isinstance(values[0] if values else b"", bytes | bytearray | LeftBytes):
        raise ValueError("bytes of something else")
    return values[0] if values else b""


_PLAIN_CALLS: dict[str, Callable] = {
    "dtype": lambda *arguments: StoredType(*arguments),
    "encode": _encode,
    "OrderedDict": _ordered,
    "bytes": _as_bytes,
    "bytearray": _as_bytes,
    "set": lambda items=(): set(items),
    "frozenset": lambda items=(): frozenset(items),
}
_FUNCTIONS = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "collections.OrderedDict": "OrderedDict",
}
for _core in ("numpy.core", "numpy._core"):  # NumPy 1, 2
    _FUNCTIONS |= {f"{_core}.multiarray.{name}": name for name in ("_reconstruct", "scalar")}
    _FUNCTIONS |= {f"{_core}.numeric._frombuffer": "_frombuffer"}
for _builtins in ("builtins", "__builtin__"):  # Python 3, 2
    _FUNCTIONS |= {f"{_builtins}.{name}": name for name in ("bytes", "bytearray", "set", "frozenset")}
