"""Arrays in files are read by rows: memory does not grow with them; what headers declare is not believed."""

import io
import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from ikem_fast.data.formats.npy import MAX_BLOCK_BYTES, NpyFile
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError

ARRAY = np.random.default_rng(0).normal(size=(23, 4, 3))


def saved(path, array=ARRAY):
    np.save(path, array)
    return NpyFile(SourceFile(path))


@pytest.mark.parametrize("change", [np.asarray, np.asfortranarray, lambda x: x.astype(">f8")])
@pytest.mark.parametrize("compression", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_rows(tmp_path, monkeypatch, change, compression):
    monkeypatch.setattr("ikem_fast.data.formats.npy.MAX_BLOCK_BYTES", 5 * ARRAY[0].nbytes)
    file = saved(tmp_path / "a.npy", change(ARRAY))
    if compression is not None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w", compression) as archive:
            archive.write(tmp_path / "a.npy", "deep/a.npy")
        file = NpyFile(SourceFile(tmp_path / "a.zip", "deep/a.npy"))
    assert (file.shape, file.dtype) == (ARRAY.shape, change(ARRAY).dtype)
    np.testing.assert_array_equal(file.load(), ARRAY)
    for start in (0, 7, 23):
        rows = list(file.rows(start))
        assert len(rows) == 23 - start
        for row, expected in zip(rows, ARRAY[start:], strict=True):
            np.testing.assert_array_equal(row, expected)
    blocks = list(file.blocks([2, 0, 5, 1], skip=3))
    assert [len(block) for block in blocks] == [2, 0, 5, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), ARRAY[3:11])
    with pytest.raises(InputError, match=r"a\.npy: expected clips of at most 480 bytes, found one of 6 rows"):
        next(file.blocks([6]))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([{}]), "found object of shape .*; arrays of Python objects may run code"),
        (np.zeros(2, "c16"), "expected an array of numbers or texts, found complex128"),
        (np.zeros(2, [("a", "f4")]), "expected an array of numbers or texts, found another type"),
        (np.float32(1), "expected an array of numbers or texts"),
    ],
)
def test_what_is_no_array_of_numbers(tmp_path, array, said):
    with pytest.raises(InputError, match=rf"a\.npy: .*{said}"):
        saved(tmp_path / "a.npy", array)


def test_declared_sizes_are_held_against_the_file(tmp_path):
    saved(tmp_path / "a.npy")
    content = (tmp_path / "a.npy").read_bytes()
    for before, after in ((b"(23, 4, 3)", b"(23000000000, 4, 3)"), (b"(23, 4, 3)", b"(24, 4, 3)")):
        lie = content.replace(before, after).replace(b" " * (len(after) - len(before)) + b"\n", b"\n")
        (tmp_path / "a.npy").write_bytes(lie)
        with pytest.raises(InputError, match=r"a\.npy: expected \d+ bytes, as declared .*, found 2336"):
            NpyFile(SourceFile(tmp_path / "a.npy"))
    for part in (b"", content[:5], content[:100], b"PK" + content):
        (tmp_path / "a.npy").write_bytes(part)
        with pytest.raises(InputError, match=r"a\.npy: expected a NumPy array, found"):
            NpyFile(SourceFile(tmp_path / "a.npy"))
    (tmp_path / "a.npy").write_bytes(content)
    file = NpyFile(SourceFile(tmp_path / "a.npy"))
    (tmp_path / "a.npy").write_bytes(content[:1000])
    with pytest.raises(InputError, match=r"a\.npy: expected a whole array, found"):
        list(file.rows())
    with pytest.raises(InputError, match=r"b\.npy: expected a NumPy array, found"):
        NpyFile(SourceFile(tmp_path / "b.npy"))


def hollow(path, shape, dtype="<f4"):
    """An array of zeros that takes no disk, whatever its shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    with path.open("wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + int(np.prod(shape)) * np.dtype(dtype).itemsize)


MEASURE = """
import resource, sys
from itertools import islice
from pathlib import Path
from ikem_fast.data.formats.agcn import ARRAYS, find_clips
from ikem_fast.data.formats.parts import find_parts

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

stream = find_clips(find_parts(Path(sys.argv[1]), ARRAYS))
plan, _ = stream.plan()
next(stream.read(0))
before = peak()
count = sum(1 for clip in islice(stream.read(0), 300))
count += sum(1 for clip in stream.read(len(plan) - 300))
print(count, peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak is measured on Linux")
def test_an_array_of_29_gigabytes_never_enters_memory(tmp_path):
    """40,091 clips of (3, 300, 25, 2) float32, as NTU RGB+D has for training; a file of holes."""
    clips = 40091
    hollow(tmp_path / "train_data_joint.npy", (clips, 3, 300, 25, 2))
    assert (tmp_path / "train_data_joint.npy").stat().st_size > 7e9
    hollow(tmp_path / "val_data_joint.npy", (4 * clips, 3, 300, 25, 2))
    assert (tmp_path / "val_data_joint.npy").stat().st_size > 28e9
    for part, count in (("train", clips), ("val", 4 * clips)):
        np.save(tmp_path / f"{part}_num_frame.npy", np.full(count, 100))
        with (tmp_path / f"{part}_label.pkl").open("wb") as file:
            np.save(file, np.zeros(count, np.int64))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True
    )
    count, growth = map(int, done.stdout.split())
    assert count == 600
    assert growth < 16e6 < MAX_BLOCK_BYTES, f"memory grew by {growth / 1e6:.0f} MB"
