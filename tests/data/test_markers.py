"""Points of C3D files are read as ezc3d reads them, and anything else is one error, not the process's end."""

import random
import struct

import numpy as np
import pytest

from ikem_fast.data.formats.markers import read_points

ezc3d = pytest.importorskip("ezc3d")


def written(path, points, frames, analog=0):
    """A file of ezc3d's with random points, the first lost in the second frame, and what it reads of it."""
    rng = np.random.default_rng(0)
    made = ezc3d.c3d()
    made["parameters"]["POINT"]["LABELS"]["value"] = tuple(f"M{number}" for number in range(points))
    made["parameters"]["POINT"]["RATE"]["value"] = [50]
    values = np.ones((4, points, frames))
    values[:3] = rng.normal(size=(3, points, frames))
    values[:3, 0, 1] = np.nan
    made["data"]["points"] = values
    if analog:
        made["parameters"]["ANALOG"]["RATE"]["value"] = [100]
        made["parameters"]["ANALOG"]["LABELS"]["value"] = tuple("ABCDEF"[:analog])
        made["data"]["analogs"] = rng.normal(size=(1, analog, 2 * frames))
    made.write(str(path))
    return path.read_bytes(), ezc3d.c3d(str(path))["data"]["points"][:3].transpose(2, 1, 0)


@pytest.mark.parametrize(("points", "frames", "analog"), [(2, 7, 0), (300, 3, 0), (4, 5, 3)])
def test_points_are_what_the_reference_reads(points, frames, analog, tmp_path):
    content, expected = written(tmp_path / "a.c3d", points, frames, analog)
    found = read_points(content)
    np.testing.assert_array_equal(found.positions, expected)
    assert np.isnan(found.positions[1, 0]).all() and found.rate == 50
    assert found.labels == [f"M{number}" for number in range(points)]


@pytest.mark.parametrize("order", ["<", ">"])
def test_integers_are_scaled_in_either_order_of_bytes(order, tmp_path):
    """By hand, as the specification has it: no group but POINT, points behind the parameters."""
    label = b"\x06\x01LABELS"
    entry = struct.pack(f"{order}HbB", 11, -1, 2) + b"\x02\x02" + b"A B " + b"\0"
    group = b"\x05\xffPOINT" + struct.pack(f"{order}H", 3) + b"\0"
    parameters = b"\x01\x50\x01" + bytes([84 if order == "<" else 86]) + group + label + entry
    header = b"\x02\x50" + struct.pack(f"{order}5HfHHf", 2, 0, 1, 2, 0, 0.5, 3, 0, 25.0)
    points = np.array([[[2, 4, 6, 0], [1, 1, 1, -1]], [[-2, 0, 8, 3], [3, 3, 3, 0]]], f"{order}i2").tobytes()
    found = read_points(header.ljust(512, b"\0") + parameters.ljust(512, b"\0") + points)
    assert (found.labels, found.rate) == (["A", "B"], 25)
    np.testing.assert_array_equal(found.positions[:, 0], [[1, 2, 3], [-1, 0, 4]])
    assert np.isnan(found.positions[0, 1]).all()


def test_whatever_is_changed_is_one_error(tmp_path):
    whole, _ = written(tmp_path / "a.c3d", 4, 5, 3)
    draw, refused = random.Random(0), 0
    for _ in range(3000):
        content = bytearray(whole)
        for _ in range(draw.choice((1, 2, 8))):
            content[draw.choice((draw.randrange(1024), draw.randrange(len(whole))))] = draw.randrange(256)
        del content[draw.choice((len(whole), draw.randrange(len(whole)))) :]
        try:
            positions = read_points(bytes(content)).positions
        except ValueError as error:
            refused += 1
            assert "expected" in str(error)
        else:
            assert positions.nbytes <= 100 * len(whole)
    assert 500 < refused < 2900
