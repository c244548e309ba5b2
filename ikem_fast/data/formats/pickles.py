"""Pickles of NumPy arrays and plain containers, read by an interpreter that can make nothing else.

A pickle is a program for a small stack machine, which may call whatever can be imported. This machine knows
the instructions that numbers, texts, lists, tuples, dicts and sets are written with (protocols 2 to 5), and
the few functions that NumPy's arrays are made by, by their names in NumPy 1 and 2; nothing is imported.
Anything else is refused by name. Values of arrays stay in the file until they are asked for, and sizes are
held against what is left of it before any memory is. Source: the comments of Python's `pickletools`.
"""

import pickletools
import struct
from collections.abc import Callable
from typing import Any

from ikem_fast.data.formats.npy import BROKEN
from ikem_fast.data.formats.stored import LeftBytes, StoredArray, StoredBytes, StoredType
from ikem_fast.data.headers import MAGIC
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError, printable

MAX_STEPS = 1 << 26  # instructions; the pickles of NTU RGB+D 120 have eight million
_LEFT_BYTES = 1 << 10  # from here on, bytes are left in the file
_BLOCK_BYTES = 1 << 12  # of instructions, that are read at a time


class _Function(str):
    """The name of a function that the interpreter knows."""


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
_MARK = object()
_MEMOIZE, _ONE_BYTE, _GET, _LONG_GET = b"\x94Khj"  # most instructions are one of these


def load_pickle(file: SourceFile) -> Any:
    """Read a pickle of arrays, numbers, texts and plain containers.

    Returns what it holds; arrays are `StoredArray`, ordered dicts are dicts.

    Raises InputError naming the file where it is none, broken, or holds anything else: then by its name, and
    nothing of it was run.
    """
    try:
        return _Machine(file, StoredBytes(file)).run()
    except InputError:
        raise
    except (*BROKEN, TypeError, IndexError, OverflowError, struct.error, AttributeError) as error:
        raise InputError(
            f"{file}: expected a pickle of arrays and plain containers, found: {printable(error)}"
        ) from None


class _Machine:
    """Runs one pickle."""

    def __init__(self, file, stored):
        self.file, self.stored, self.size = file, stored, file.size
        self.stack, self.memo = [], {}
        self.block, self.start, self.at = b"", 0, 0  # where the block is in the file, where we are in it

    def run(self):
        start = self.read(2)
        if MAGIC.startswith(start):
            raise ValueError("a NumPy array, of which the name ends in .npy as a rule")
        if start[:1] != b"\x80" or not 2 <= start[1] <= 5:
            raise ValueError(f"no pickle of protocol 2 to 5, but bytes that begin with {start!r}")
        stack, memo = self.stack, self.memo
        for _ in range(MAX_STEPS):
            if self.at >= len(self.block):
                self.fetch(1)
            block, at = self.block, self.at
            code = block[at]
            self.at = at + 1
            if code == _MEMOIZE:
                memo[len(memo)] = stack[-1]
            elif code == _ONE_BYTE and at + 1 < len(block):
                stack.append(block[at + 1])
                self.at = at + 2
            elif code == _GET and at + 1 < len(block):
                stack.append(memo[block[at + 1]])
                self.at = at + 2
            elif code == _LONG_GET and at + 4 < len(block):
                stack.append(memo[int.from_bytes(block[at + 1 : at + 5], "little")])
                self.at = at + 5
            else:
                step = _STEPS[code]
                if step is None:
                    return self.pop()
                step(self)
        raise ValueError(f"more than {MAX_STEPS} instructions")

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

    def read(self, size):
        end = self.at + size
        if end > len(self.block):
            self.fetch(size)
            end = size
        content = self.block[self.at : end]
        self.at = end
        return content

    def line(self, most):
        """The rest of a line."""
        if self.block.find(b"\n", self.at) < 0:
            self.fetch(min(most, self.size - self.start - self.at))
        end = self.block.find(b"\n", self.at, self.at + most)
        if end < 0:
            raise ValueError(f"a name of more than {most} bytes")
        return self.read(end + 1 - self.at)[:-1].decode("utf-8")

    def number(self, form):
        return struct.unpack(form, self.read(struct.calcsize(form)))[0]

    def content(self, size, decode=lambda content: content):
        """Bytes of a declared size: read, or left in the file if they are many."""
        if size < _LEFT_BYTES:
            return decode(self.read(size))
        place = self.start + self.at
        if size > self.size - place:
            raise EOFError(f"{size} bytes declared, {self.size - place} left")
        self.at += size
        return LeftBytes(place, size, decode)

    def since_mark(self):
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("a mark that is missing")
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def pop(self):
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value belongs")
        return value

    def function(self, module, name):
        full = f"{module}.{name}"
        if full not in _FUNCTIONS:
            raise InputError(
                f"{self.file}: expected a pickle of NumPy arrays and plain containers alone, found one that "
                f"calls {printable(full)}; nothing of it was run"
            )
        self.stack.append(_Function(_FUNCTIONS[full]))

    def call(self):
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Function) or not isinstance(arguments, tuple):
            raise ValueError("a call of what is no function")
        self.stack.append(_CALLS[function](self, *arguments))

    def build(self):
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, StoredType):
            target.set(state)
        elif isinstance(target, StoredArray) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran_order, values = state
            target.set(shape, dtype, bool(fortran_order), values)
        else:
            raise ValueError(f"a state for {type(target).__name__}, which takes none")

    # What functions stand for.

    def reconstruct(self, kind, *_):
        if kind != "ndarray" or not isinstance(kind, _Function):
            raise ValueError("an array of another class than numpy.ndarray")
        return StoredArray(self.file, self.stored)

    def from_buffer(self, values, dtype, shape, order):
        array = StoredArray(self.file, self.stored)
        array.set(shape, dtype, order == "F", values)
        return array

    def scalar(self, dtype, values):
        array = self.from_buffer(values, dtype, (), "C")
        if array.dtype.itemsize > _LEFT_BYTES:
            raise ValueError(f"a number of {array.dtype.itemsize} bytes")
        return array.load()[()].item()

    def encode(self, text, encoding):
        if encoding not in ("latin1", "latin-1") or not isinstance(text, str | LeftBytes):
            raise ValueError("an encoding other than Latin-1")
        if isinstance(text, LeftBytes):
            return LeftBytes(text.at, text.size, lambda content: content.decode("utf-8").encode("latin-1"))
        return text.encode("latin-1")

    def ordered(self, *pairs):
        if pairs:
            raise ValueError("an ordered dict that is not empty at first")
        return {}

    def as_bytes(self, *values):
        if len(values) > 1 or not isinstance(values[0] if values else b"", bytes | LeftBytes):
            raise ValueError("bytes of something else")
        return values[0] if values else b""


_CALLS = {
    "_reconstruct": _Machine.reconstruct, "_frombuffer": _Machine.from_buffer, "scalar": _Machine.scalar,
    "dtype": lambda machine, *arguments: StoredType(*arguments), "encode": _Machine.encode,
    "OrderedDict": _Machine.ordered, "bytes": _Machine.as_bytes,
    "bytearray": _Machine.as_bytes,
    "set": lambda machine, items: set(items), "frozenset": lambda machine, items: frozenset(items),
    "ndarray": lambda *_: _refuse_call("numpy.ndarray"),  # a class that arrays name, not one to call
}  # fmt: skip


def _refuse_call(name):
    raise ValueError(f"a call of {name}")


def _put(read_key: Callable) -> Callable:
    def step(machine):
        machine.memo[read_key(machine)] = machine.stack[-1]

    return step


def _push(make: Callable) -> Callable:
    def step(machine):
        machine.stack.append(make(machine))

    return step


def _text(content):
    return content.decode("utf-8", "surrogatepass")


def _integer(machine):
    size = machine.read(1)[0]
    if size > 16:
        raise ValueError(f"an integer of {size} bytes")
    return int.from_bytes(machine.read(size), "little", signed=True)


def _append(machine):
    value = machine.pop()
    _container(machine, list).append(value)


def _appends(machine):
    items = machine.since_mark()
    _container(machine, list).extend(items)


def _set_item(machine):
    value, key = machine.pop(), machine.pop()
    _container(machine, dict)[key] = value


def _set_items(machine):
    items = machine.since_mark()
    _container(machine, dict).update(zip(items[::2], items[1::2], strict=True))


def _add_items(machine):
    items = machine.since_mark()
    _container(machine, set).update(items)


def _container(machine, kind):
    top = machine.stack[-1]
    if type(top) is not kind:
        raise ValueError(f"items for {type(top).__name__} where {kind.__name__} was expected")
    return top


def _global(machine):
    module = machine.line(300)
    machine.function(module, machine.line(300))


def _stack_global(machine):
    name, module = machine.pop(), machine.pop()
    if not (isinstance(name, str) and isinstance(module, str)):
        raise ValueError("a function without a name")
    machine.function(module, name)


def _pop_mark(machine):
    machine.since_mark()


def _tuple(count):
    def step(machine):
        items = [machine.pop() for _ in range(count)][::-1]
        machine.stack.append(tuple(items))

    return step


def _refuse(code):
    known = pickletools.code2op.get(chr(code))

    def step(machine):
        name = f"the instruction {known.name}" if known else f"byte {code:#04x}"
        raise InputError(
            f"{machine.file}: expected a pickle of NumPy arrays and plain containers alone, found {name}; "
            "nothing of it was run"
        )

    return step


def _one_byte(machine):
    return machine.read(1)[0]


_KNOWN: dict[bytes, Callable | None] = {
    b".": None,
    b"(": _push(lambda m: _MARK),
    b"0": lambda m: m.stack.pop(),
    b"1": _pop_mark,
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"K": _push(_one_byte),
    b"M": _push(lambda m: m.number("<H")),
    b"J": _push(lambda m: m.number("<i")),
    b"\x8a": _push(_integer),
    b"G": _push(lambda m: m.number(">d")),
    b"X": _push(lambda m: m.content(m.number("<I"), _text)),
    b"\x8c": _push(lambda m: m.content(_one_byte(m), _text)),
    b"\x8d": _push(lambda m: m.content(m.number("<Q"), _text)),
    b"T": _push(lambda m: m.content(m.number("<I"), lambda content: content.decode("latin-1"))),
    b"U": _push(lambda m: m.content(_one_byte(m), lambda content: content.decode("latin-1"))),
    b"B": _push(lambda m: m.content(m.number("<I"))),
    b"C": _push(lambda m: m.content(_one_byte(m))),
    b"\x8e": _push(lambda m: m.content(m.number("<Q"))),
    b"\x96": _push(lambda m: m.content(m.number("<Q"))),
    b"]": _push(lambda m: []),
    b"}": _push(lambda m: {}),
    b")": _push(lambda m: ()),
    b"\x8f": _push(lambda m: set()),
    b"a": _append,
    b"e": _appends,
    b"s": _set_item,
    b"u": _set_items,
    b"\x90": _add_items,
    b"\x91": _push(lambda m: frozenset(m.since_mark())),
    b"t": _push(lambda m: tuple(m.since_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"q": _put(_one_byte),
    b"r": _put(lambda m: m.number("<I")),
    b"\x94": _put(lambda m: len(m.memo)),
    b"h": _push(lambda m: m.memo[_one_byte(m)]),
    b"j": _push(lambda m: m.memo[m.number("<I")]),
    b"\x95": lambda m: m.number("<Q"),
    b"c": _global,
    b"\x93": _stack_global,
    b"R": lambda m: m.call(),
    b"b": lambda m: m.build(),
}
_STEPS = [_KNOWN[bytes([code])] if bytes([code]) in _KNOWN else _refuse(code) for code in range(256)]
