"""Pickles that run code or take memory without end, and arrays whose headers lie."""

import io
import pickle
import struct

import numpy as np

MARK = "/tmp/ikem-fast-hostile-code-ran"
ESCAPES = "\x1b[2J\x1b]0;x\x07", "a\nb", "\u202eevil\u2066", "[/x]", "$\\foo{$", "\u0000", "\ud800"


class Code:
    """Runs when it is unpickled by Python's own reader."""

    def __reduce__(self):
        return (open, (MARK, "w"))


def pickles():
    """Code in every protocol and by every instruction that calls, and what takes memory without end."""
    call = b"cos\nsystem\n(S'touch " + MARK.encode() + b"'\ntR."
    deep = b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000 + b"."
    doubled = b"\x80\x04K\x01" + b"".join(b"\x94h%c\x86" % place for place in range(200)) + b"."
    return {
        **{f"code, protocol {p}": pickle.dumps(Code(), protocol=p) for p in range(6)},
        "code in a list": pickle.dumps([{"a": (1, Code())}], protocol=2),
        "system": call,
        "system, protocol 4": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        "instance": b"(S'true'\nios\nsystem\n.",
        "object": b"\x80\x02(cos\nsystem\nU\x04trueo.",
        "new object": b"\x80\x02cos\nsystem\nU\x04true\x85\x81.",
        "new object by keyword": b"\x80\x04cos\nsystem\n)}\x92.",
        "getattr": b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93\x8c\x08builtins\x8c\x04eval\x93\x86R.",
        "eval": b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x041+1\x85R.",
        "a part of a known module": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.\x00dump\x93.",
        "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x0cf2py.os.path\x93.",
        "persistent": b"\x80\x02U\x01aQ.",
        "extension": b"\x80\x02\x82\x01.",
        "state of a dict": b"\x80\x02}}U\x0a__reduce__K\x01sb.",
        "call of a text": b"\x80\x02U\x06system)R.",
        "scalar of objects": b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x06scalar\x93\x8c\x05numpy"
        b"\x8c\x05dtype\x93\x8c\x02O8\x89\x88\x87R\x8c\x01a\x86R.",
        "objects": pickle.dumps(np.array([Code()], dtype=object), protocol=4),
        "deep": deep,
        "doubled": doubled,
        "large text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
        "large bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"a.",
        "large buffer": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"a.",
        "large integer": b"\x80\x02\x8b" + struct.pack("<i", 1 << 30) + b"\x01.",
        "negative integer": b"\x80\x02\x8b" + struct.pack("<i", -1) + b".",
        "large frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.",
        "memo": b"\x80\x02Nr\xff\xff\xff\xff.",
        "no end": b"\x80\x04" + b"N0" * 50_000,
        "marks": b"\x80\x04" + b"(" * 100_000 + b".",
        "large dtype": pickle.dumps(np.zeros(1), protocol=4).replace(b"f8", b"V9"),
        "recursive": b"\x80\x04]\x94h\x00a.",
        "recursive dict": b"\x80\x04}\x94\x8c\x01ah\x00s.",
        "recursive tuple": b"\x80\x04]\x94h\x00\x85h\x00h\x00\x85e.",
        "name with escapes": b"\x80\x04\x8c\x07\x1b[2Jabc\x8c\x01\x07\x93.",
        "text mode": b"I1\n.",
        "empty": b"",
        "none of it": b"\x80\x04.",
    }


def npy(header, values=b"", version=1):
    """An .npy file with a header of these words."""
    text = header.encode("latin-1")
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + values


def arrays():
    """Headers that are no literals or declare what is not there."""
    header = "{'descr': '%s', 'fortran_order': %s, 'shape': %s}\n"
    shapes = (
        "(-1,)",
        "(-1, 20, 3)",
        "(999999999999, 20, 3)",
        "(2**40,)",
        "(0, 20, 3)",
        "()",
        "(1,)" * 3,
        "(True,)",
        "(1e9,)",
        "((1,), 2)",
        "(9223372036854775807, 9223372036854775807)",
        "(3, 0, 9999999999)",
        "(1" + ", 1" * 5000 + ")",
        "(" * 500 + ")" * 500,
        "open('x')",
        "__import__('os').system('true')",
    )
    found = {f"shape {shape[:30]}": npy(header % ("<f4", False, shape), bytes(240)) for shape in shapes}
    for descr in (
        "|O",
        "O8",
        "V240",
        "<f16",
        "<m8[ns]",
        "|S999999999",
        "<U1000000000",
        "garbage",
        "|b1",
        ">f4",
    ):
        found[f"type {descr}"] = npy(header % (descr, False, "(1, 20, 3)"), bytes(240))
    found |= {
        "order": npy(header % ("<f4", "maybe", "(1, 20, 3)"), bytes(240)),
        "a class": npy("{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (1,)}\n", bytes(8)),
        "a call": npy("dict(descr='<f4', fortran_order=False, shape=(1, 20, 3))\n", bytes(240)),
        "escapes": npy("{'descr': '\x1b[2J', 'fortran_order': False, 'shape': (1,)}\n"),
        "no header": b"\x93NUMPY\x01\x00",
        "long header": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        "version": npy(header % ("<f4", False, "(1, 20, 3)"), bytes(240), 9),
        "empty": b"",
        "pickle": pickles()["system"],
        "objects": _saved(np.array([Code()], dtype=object)),
        "infinite": _saved(np.full((4, 20, 3), np.inf)),
        "huge numbers": _saved(np.full((4, 20, 3), 1e308)),
        "nothing": _saved(np.zeros((0, 20, 3))),
        "texts": _saved(np.array(["\x1b[2J"] * 4)),
    }
    return found


def _saved(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()
