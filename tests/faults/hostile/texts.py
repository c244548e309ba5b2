"""Texts that declare what is not there, or hold what is no number: JSON, tables, .skeleton, BVH."""


def json_texts(right):
    """JSON that is deep, large, recursive in its words, or holds what is no coordinate.

    right: bytes of a file that is right.
    """
    text = right.decode()
    number = next(
        part for part in text.replace("[", " ").replace("]", " ").replace(",", " ").split() if "." in part
    )
    number = number.strip("{}")
    swapped = {
        "text": '"a"',
        "true": "true",
        "null": "null",
        "infinite": "1e999",
        "NaN": "NaN",
        "Infinity": "-Infinity",
        "large": "9" * 400,
        "long": "9" * 100_000,
        "list": "[1]",
        "object": "{}",
        "escape": '"\\u001b[2J"',
        "surrogate": '"\\ud800"',
        "long text": f'"{"a" * 100_000}"',
    }
    found = {name: text.replace(number, value, 1).encode() for name, value in swapped.items()}
    return found | {
        "deep": b"[" * 200_000,
        "deep and closed": b"[" * 100_000 + b"]" * 100_000,
        "deep objects": b'{"a":' * 100_000,
        "empty": b"",
        "spaces": b" " * 100_000,
        "number": b"1",
        "null alone": b"null",
        "not UTF-8": b'{"skeletons": "\xff\xfe"}',
        "BOM": b"\xef\xbb\xbf" + right,
        "NUL": bytes(1000),
        "twice": text.replace("{", '{"frames": 1, "skeletons": 2, ', 1).encode(),
        "cut": right[: len(right) // 2],
        "many": b"[" + b"0," * 500_000 + b"0]",
        "lists": b"[" + b"[]," * 300_000 + b"[]]",
        "doubled": right + right,
    }


def texts(right):
    """Tables of numbers with what is no number, or far too much of it."""
    number = next(part for part in right.replace(b",", b" ").split() if b"." in part)
    swapped = {
        "NaN": b"nan",
        "infinite": b"1e999",
        "word": b"word",
        "hex": b"0x1p4",
        "underscore": b"1_0",
        "digits": "１２".encode(),
        "long": b"9" * 100_000,
        "escape": b"\x1b[2J",
        "NUL": b"\0",
        "not UTF-8": b"\xff\xfe",
        "huge": b"1e308",
        "minus": b"--1",
        "nothing": b"",
    }
    found = {name: right.replace(number, value, 1) for name, value in swapped.items()}
    return found | {
        "empty": b"",
        "blank": b"\n" * 100_000,
        "one line": b"0 " * 500_000,
        "many lines": b"0\n" * 500_000,
        "separators": b"," * 100_000,
        "cut": right[: len(right) // 2],
        "NULs": bytes(100_000),
        "doubled": right + right,
        "returns": b"\r" * 50_000,
        "counts": b"999999999\n" * 50,
        "negative": b"-1\n" * 50,
    }


def skeletons(right):
    """.skeleton files that declare what is not there, and many people."""
    people = (
        b"1\n"
        + b"6\n"
        + b"".join(b"%d 0 1 1 1 1 0 0 0 2\n25\n" % number + (b"0 " * 12 + b"\n") * 25 for number in range(6))
    )
    tracks = b"3000\n" + b"".join(
        b"1\n%d 0 1 1 1 1 0 0 0 2\n25\n" % number + (b"0 0 0 0 0 0 0 0 0 0 0 0\n") * 25
        for number in range(3000)
    )
    return texts(right) | {
        "frames": b"65536\n",
        "more frames": b"65537\n",
        "frames without end": b"9" * 30 + b"\n",
        "bodies": b"1\n999999\n",
        "empty frames": b"65536\n" + b"0\n" * 65536,
        "people": people,
        "tracks": tracks,
        "small": right.replace(b"0.5", b"-1e-400", 1),
        "joints": b"1\n1\n9 0 1 1 1 1 0 0 0 2\n26\n",
    }


def motions(right):
    """BVH with a hierarchy that is deep, endless or lies."""
    joint = b"JOINT a%d\n{\nOFFSET 0 0 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    deep = b"HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 0\n" + b"".join(joint % n for n in range(5000))
    return texts(right) | {
        "deep": deep,
        "deep and closed": deep + b"}\n" * 5001 + b"MOTION\nFrames: 1\nFrame Time: 1\n0\n",
        "frames": right.replace(b"Frames: 7", b"Frames: 99999999999"),
        "negative frames": right.replace(b"Frames: 7", b"Frames: -7"),
        "time": right.replace(b"0.025", b"0"),
        "time without end": right.replace(b"0.025", b"1e-320"),
        "channels": right.replace(b"CHANNELS 6", b"CHANNELS 999999999"),
        "unknown channel": right.replace(b"Xposition", b"Wposition"),
        "escape": right.replace(b"LeftArm", b"\x1b[2J"),
        "twice": right.replace(b"LeftArm", b"RightArm"),
        "braces": b"HIERARCHY " + b"{ " * 100_000,
        "no root": right.replace(b"ROOT", b"JOINT"),
    }
