"""Tables of numbers and lists of labels as spreadsheets write them: read as they are meant, or refused."""

import numpy as np
import pytest

from ikem_fast.data import FORMATS
from ikem_fast.data.formats import find_format
from ikem_fast.data.preparation import Preparation, Preprocessing, preparing
from ikem_fast.errors import InputError
from ikem_fast.skeleton import find_layout
from tests.data.test_own import some_raw

LAYOUT = "joints: [A, B, C]\nparents: [-1, A, B]\nshoulders: [B, C]\n"


def prepare(folder, text, labels=None, names=("c.csv",)):
    """A dataset of tables of three joints, clips that stay as they are."""
    (folder / "in" / "walk").mkdir(parents=True, exist_ok=True)
    (folder / "tri.yaml").write_text(LAYOUT)
    for name in names:
        (folder / "in" / "walk" / name).write_text(text)
    if labels is not None:
        (folder / "list.txt").write_text(labels)
    options = {} if labels is None else {"labels": folder / "list.txt"}
    as_they_are = Preprocessing(center="none", align="none", sampling="none", frames=12)
    with preparing(Preparation(as_they_are)):
        return FORMATS["arrays"].prepare(
            folder / "out", folder / "in", str(folder / "tri.yaml"), workers=1, **options
        )


def table(points, sign, comma=".", head=""):
    rows = points.reshape(-1, points.shape[-1])
    return head + "".join(sign.join(f"{x:.6f}".replace(".", comma) for x in row) + "\n" for row in rows)


@pytest.mark.parametrize("sign", [";", "\t", " ", " ; "])
@pytest.mark.parametrize("head", ["", "x;y\n", "x.0,y.0\n"])
def test_decimal_commas_are_refused(tmp_path, sign, head):
    """Two coordinates with such commas look like four."""
    points = some_raw(3)[:2, ..., 0].transpose(1, 2, 0)
    with pytest.raises(InputError, match=r"c\.csv: expected numbers with decimal points, found commas"):
        prepare(tmp_path, table(points, sign, ",", head))


@pytest.mark.parametrize("sign", [";", "\t", ", ", ",", "; "])
def test_signs_between_numbers(tmp_path, sign):
    raw = some_raw(3)
    dataset = prepare(tmp_path, table(raw[..., 0].transpose(1, 2, 0), sign, ".", "x, y, z of 12,5\n"))
    np.testing.assert_allclose(dataset["train"].clips[0], raw, atol=1e-6)


def test_groups_of_numbers_with_points(tmp_path):
    """Commas within joints, semicolons between them."""
    raw = some_raw(3)
    rows = (
        ";".join(",".join(f"{x:.6f}" for x in p) for p in frame) for frame in raw[..., 0].transpose(1, 2, 0)
    )
    dataset = prepare(tmp_path, "\n".join(rows))
    np.testing.assert_allclose(dataset["train"].clips[0], raw, atol=1e-6)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("coordinates", [2, 3])
def test_a_column_of_the_joints_numbers_is_no_coordinate(tmp_path, first, coordinates):
    points = some_raw(3)[:coordinates, ..., 0].transpose(1, 2, 0)
    numbers = np.tile(np.arange(3.0) + first, (12, 1))[..., None]
    with pytest.raises(InputError, match="found the joints' numbers in the first column"):
        prepare(tmp_path, table(np.concatenate([numbers, points], 2), ","))


@pytest.mark.parametrize(
    ("names", "found"),
    [("y,x", "y, x"), ("a_x,a_z,a_y", "x, z, y"), ("x0,x1,x2,y0,y1,y2,z0,z1,z2", "x, x, x, y, y, y, …"),
     ("hipZ;hipX;hipY", "z, x, y"), ("Y X", "y, x")],
)  # fmt: skip
def test_columns_in_another_order_are_refused(tmp_path, names, found):
    """Which were taken for x, y and z as they came."""
    count = len(names.replace(";", ",").replace(" ", ",").split(","))
    points = some_raw(3)[: min(count, 3), ..., 0].transpose(1, 2, 0).reshape(-1, count)
    with pytest.raises(
        InputError, match=f"x, y of one joint after the other, found {found} in the first line"
    ):
        prepare(tmp_path, table(points, ",", head=f"{names}\n"))


@pytest.mark.parametrize(
    "names", ["x,y,z", "a.x;a.y;a.z", "X Y Z", "hipX,hipY,hipZ", "one,two,three", "max,tax,fix"]
)
def test_columns_in_order_or_called_otherwise(tmp_path, names):
    raw = some_raw(3)
    dataset = prepare(tmp_path, table(raw[..., 0].transpose(1, 2, 0), ",", head=f"{names}\n"))
    np.testing.assert_allclose(dataset["train"].clips[0], raw, atol=1e-6)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
@pytest.mark.parametrize("head", ["", "x,y,z\n"])
@pytest.mark.parametrize("frames", [1, 12])
def test_line_ends_of_any_system_and_one_frame(tmp_path, end, head, frames):
    """Which `prepare auto` finds, too."""
    raw = some_raw(3, frames=frames)
    text = table(raw[..., 0].transpose(1, 2, 0), ",", head=head).replace("\n", end)
    (tmp_path / "in" / "walk").mkdir(parents=True)
    (tmp_path / "in" / "walk" / "c.csv").write_bytes(text.encode())
    (tmp_path / "tri.yaml").write_text(LAYOUT)
    found, why = find_format(tmp_path / "in")
    assert found.name == "arrays" and "1 files of numbers such as c.csv" in why
    (clip,) = FORMATS["arrays"].read(
        tmp_path / "in" / "walk" / "c.csv", find_layout(str(tmp_path / "tri.yaml"))
    )
    np.testing.assert_allclose(clip, raw, atol=1e-6)


def test_a_few_numbers_are_no_clip(tmp_path):
    (tmp_path / "VERSION.txt").write_text("1.2\n3\n")
    with pytest.raises(InputError, match="found none of them"):
        find_format(tmp_path)


def test_tables_without_numbers_and_lines_that_are_short(tmp_path):
    for text in ("", "x,y,z\n"):
        with pytest.raises(InputError, match=r"c\.csv: expected frames of 3 joints, found none"):
            prepare(tmp_path, text)
    with pytest.raises(InputError, match="expected 3 numbers a line, found 2 in line 4"):
        prepare(tmp_path, "x,y,z\n1,2,3\n\n4,,6\n")


@pytest.mark.parametrize("sign", [",", "\t", ";"])
@pytest.mark.parametrize("head", [True, False])
def test_labels_of_several_words(tmp_path, sign, head):
    """Between whatever signs a spreadsheet writes."""
    rows = [["c.csv", "pick up", "Anna K."], ["d.csv", "sit", "Bo"]]
    text = "\n".join(sign.join(row) for row in ([["name", "label", "subject"]] if head else []) + rows)
    dataset = prepare(tmp_path, "1 2 3\n" * 3, text, ("c.csv", "d.csv"))
    assert dataset.classes == ("pick up", "sit") and dataset["train"].subjects.tolist() == ["Anna K.", "Bo"]


def test_labels_that_contradict_each_other_or_are_missing(tmp_path):
    with pytest.raises(InputError, match="line 2: expected c once, found it again with something else"):
        prepare(tmp_path, "1 2 3\n" * 3, "c.csv, walk\nc.csv, sit\n")
    with pytest.raises(InputError, match="line 1: expected a label, found none"):
        prepare(tmp_path, "1 2 3\n" * 3, "c.csv,\n")


def test_an_archive_in_a_folder_may_end_in_large_letters(tmp_path):
    raws = {name: some_raw(3, frames=frames) for name, frames in (("a", 5), ("b", 7))}
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "all.npz", **{n: raw[..., 0].transpose(1, 2, 0) for n, raw in raws.items()})
    (tmp_path / "in" / "all.npz").rename(tmp_path / "in" / "ALL.NPZ")
    (tmp_path / "tri.yaml").write_text(LAYOUT)
    (tmp_path / "list.txt").write_text("a 0\nb 1\n")
    prepare_arrays = FORMATS["arrays"].prepare
    for number, source in enumerate((tmp_path / "in", tmp_path / "in" / "ALL.NPZ")):
        found = prepare_arrays(
            tmp_path / f"{number}", source, str(tmp_path / "tri.yaml"), labels=tmp_path / "list.txt"
        )
        assert found["train"].names.tolist() == ["a", "b"] and found["train"].frames.tolist() == [5, 7]
