"""MATLAB and C3D files with sizes that lie."""

import struct
import zlib


def matlab(right):
    """MATLAB files with sizes and dimensions that lie, and compressed ones that expand."""
    header = right[:128]

    def element(kind, data):
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    def matrix(dimensions, flags=6, name=b"d_skel", values=bytes(480), kind=9):
        return element(
            14,
            element(6, struct.pack("<II", flags, 0))
            + element(5, struct.pack(f"<{len(dimensions)}i", *dimensions))
            + element(1, name)
            + element(kind, values),
        )

    bomb = zlib.compress(matrix((20, 3, 1 << 18), values=bytes(1 << 24)), 9)
    inside = element(15, zlib.compress(element(15, zlib.compress(matrix((20, 3, 1))))))
    return {
        "large": header + matrix((1 << 30, 1 << 30, 3)),
        "negative": header + matrix((-20, -3, 1)),
        "zero": header + matrix((0, 3, 0), values=b""),
        "dimensions": header + matrix((1,) * 200),
        "objects": header + matrix((20, 3, 1), flags=3),
        "cells": header + matrix((20, 3, 1), flags=1),
        "complex": header + matrix((20, 3, 1), flags=6 | 0x0800),
        "type": header + matrix((20, 3, 1), kind=99),
        "bomb": header + element(15, bomb),
        "compressed twice": header + inside,
        "size": header + struct.pack("<II", 14, 0xFFFFFFFF),
        "short": header + struct.pack("<II", 5 << 16 | 1, 0),
        "name": header + matrix((20, 3, 1), name=b"\x1b[2J"),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(600),
        "cut": right[:200],
        "infinite": header + matrix((20, 3, 1), values=struct.pack("<60d", *[float("inf")] * 60)),
        "empty": b"",
        "many": header + struct.pack("<II", 15, 0) * 100_000,
    }


def markers(right):
    """C3D files whose header and parameters lie."""
    found = {"cut": right[:600], "empty": b"", "zero": bytes(2048)}
    for place in (0, 2, 3, 4, 5, 6, 8, 12, 15, 16, 20):
        for value in (0, 0x7F, 0xFF):
            changed = bytearray(right)
            changed[place : place + 2] = bytes([value] * 2)
            found[f"{value:#x} at {place}"] = bytes(changed)
    for place in range(512, 640, 3):
        changed = bytearray(right)
        changed[place] = 0xFF
        found[f"parameter {place}"] = bytes(changed)
    return found
