"""Zip archives that are bombs, lead out of a folder, overlap or lie; safetensors that lie."""

import io
import json
import struct
import warnings
import zipfile
import zlib

from tests.faults.hostile.programs import ESCAPES, npy


def archives(members, names=("x.npy",)):
    """Zips around the right members: bombs, traversal, links, duplicates, overlapping, encrypted, nested.

    members: name → bytes that are right. names: of members that are to be spoiled.
    """
    first = names[0]
    zeros = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (16777216, 20, 3)}\n") + bytes(1 << 26)
    bomb = {**members, first: zeros}
    found = {
        "right": zipped(members),
        "bomb": zipped(bomb),
        "bomb that lies": _lying(zipped(bomb), 1 << 10),
        "sizes that lie": _lying(zipped(members), 0xFFFFFFF0),
        "traversal": zipped({**members, f"../../{first}": members[first], f"/tmp/{first}": members[first]}),
        "windows": zipped({**members, f"..\\..\\{first}": members[first], f"C:\\{first}": members[first]}),
        "twice": zipped([*members.items(), (first, b"other")]),
        "link": zipped({**members, first: b"/etc/passwd"}, link=first),
        "encrypted": _flagged(zipped(members)),
        "unknown compression": _compressed_as(zipped(members), 99),
        "LZMA": zipped(members, zipfile.ZIP_LZMA),
        "overlapping": overlapping(members[first], first, 400),
        "nested": zipped({**members, "again.zip": zipped(members), "again.npz": zipped(members)}),
        "many": zipped({**members, **{f"{number}": b"" for number in range(20_000)}}, zipfile.ZIP_STORED),
        "long name": zipped({**members, "a" * 60_000: b""}),
        "cut": zipped(members)[:-30],
        "no directory": b"PK\x03\x04" + bytes(200),
        "end alone": b"PK\x05\x06" + b"\xff" * 18,
        "damaged": zipped(members).replace(b"NUMPY", b"NUMPX"),
    }
    for place, escape in enumerate(ESCAPES[:5]):
        found[f"escapes {place}"] = zipped({**members, f"{escape}.npy": b"", f"{escape}{first}": b"none"})
    return found


def zipped(members, compression=zipfile.ZIP_DEFLATED, link=None):
    """An archive of (name, bytes); a name may stand twice."""
    content = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(content, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, value in members.items() if isinstance(members, dict) else members:
            info = zipfile.ZipInfo(name)
            info.compress_type = compression
            if name == link:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, value)
    return content.getvalue()


def _lying(content, size):
    content = bytearray(content)
    at = content.index(b"PK\x01\x02")
    struct.pack_into("<I", content, at + 24, size)
    return bytes(content)


def _flagged(content):
    content = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.index(mark)
        content[at + offset] |= 1
    return bytes(content)


def _compressed_as(content, number):
    content = bytearray(content)
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.index(mark)
        struct.pack_into("<H", content, at + offset, number)
    return bytes(content)


def overlapping(value, name, count):
    """One member's bytes under many names, each of which expands to all of them."""
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = packed.compress(bytes(1 << 20) + value) + packed.flush()
    size, check = len(value) + (1 << 20), zlib.crc32(bytes(1 << 20) + value)
    stem, _, suffix = name.rpartition(".")
    directory, head = b"", None
    for number in range(count):
        own = f"{stem}{number or ''}.{suffix}".encode()
        head = (
            head
            or struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, check, len(data), size, len(own), 0)
            + own
        )
        directory += (
            struct.pack(
                "<4sHHHHHHIIIHHHHHII",
                b"PK\1\2",
                20,
                20,
                0,
                8,
                0,
                0,
                check,
                len(data),
                size,
                len(own),
                0,
                0,
                0,
                0,
                0,
                0,
            )
            + own
        )
    start = len(head) + len(data)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), start, 0)
    return head + data + directory + end


def tensors():
    """safetensors with headers that lie."""

    def file(header, data=bytes(64), size=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if size is None else size) + text + data

    def one(**changes):
        return {"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64], **changes}}

    return {
        "size": file(one(), size=1 << 62),
        "negative": file(one(), size=(1 << 64) - 1),
        "short": b"\1\2",
        "empty": b"",
        "text": file(b"none"),
        "deep": file(b"[" * 100_000),
        "list": file([1]),
        "giant": file(one(shape=[1 << 40, 1 << 40])),
        "overflow": file(one(shape=[(1 << 63) + 2, 2])),
        "minus": file(one(shape=[-4, -4])),
        "offsets": file(one(data_offsets=[64, 0])),
        "beyond": file(one(data_offsets=[0, 1 << 40])),
        "dtype": file(one(dtype="PICKLE")),
        "missing": file({"a": {}}),
        "overlap": file({**one(), "b": one()["a"]}),
        "hole": file(one(data_offsets=[8, 72]), bytes(72)),
        "metadata": file({"__metadata__": {"a": 1}, **one()}),
        "escapes": file({"\x1b[2J": one()["a"]}),
        "infinite": file(one(), struct.pack("<16f", *[float("nan")] * 16)),
        "twice": file(b'{"a":{},"a":{}}'),
        "many": file(
            {f"a{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(20_000)}, b""
        ),
    }
