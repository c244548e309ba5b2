"""Files of every form as people have them: odd numbers, odd texts, odd places. The clips are the same."""

import zipfile

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import FORMATS, open_dataset
from ikem_fast.data.preparation import Preparation, Preprocessing, preparing
from ikem_fast.errors import InputError
from tests.data import foreign
from tests.data.foreign import Raw
from tests.data.test_formats import MAKERS
from tests.data.test_ntu import file_text, random_joints

OPTIONS = {
    "ntu": {"protocol": "ntu60-xsub"}, "npz": {"layout": "kinect-v1", "test": "ratio=0.5"},
    "crossclr": {"lengths": "7"}, "arrays": {"layout": "kinect-v1"}, "c3d": {"layout": "{}/markers.yaml"},
}  # fmt: skip
UNPACKED = {"npz", "ctrgcn"}  # archives themselves
TEXTS = {"sbu", "msr-action3d", "pku-mmd", "uav-human", "bvh", "arrays", "ntu"}
CHANGES = {
    "float64": lambda x: x.astype(np.float64), "Fortran order": np.asfortranarray,
    "big endian": lambda x: x.astype(">f4"), "integers": lambda x: np.round(x).astype("i4"),
}  # fmt: skip


def made(name, folder):
    """The smallest files of a format, with classes; returns what its `prepare` is given."""
    folder.mkdir(parents=True)
    MAKERS[name](folder)
    if name == "c3d":
        (folder / "labels.csv").write_text("one.c3d, walk\n")
        (folder / "markers.yaml").write_text("joints: [A, B]\nparents: [-1, A]\nshoulders: [A, B]\n")
    options = {key: value.format(folder) for key, value in OPTIONS.get(name, {}).items()}
    if name == "c3d":
        options["labels"] = folder / "labels.csv"
    return options


def clips(prepared):
    return [split.clips[:].tobytes() for split in prepared.splits.values()]


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "synthetic"])
def test_places(tmp_path, name):
    """Spaces and letters of any alphabet, a link, a home, an archive."""
    home = tmp_path / "Дані з пробілом"
    options = made(name, home / "у теці")
    source = home / "у теці"
    source = next(source.glob("*.npz")) if name in UNPACKED else source
    with preparing(Preparation(Preprocessing(frames=8) if name != "crossclr" else Preprocessing())):
        plain = FORMATS[name].prepare(tmp_path / "plain", source, **options)
        (tmp_path / "a link").symlink_to(source)
        linked = FORMATS[name].prepare(tmp_path / "linked", tmp_path / "a link", **options)
        assert clips(linked) == clips(plain) and any(clips(plain))
        if name in UNPACKED:
            return
        with zipfile.ZipFile(tmp_path / "всі.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(source.rglob("*")):
                archive.write(path, f"../Дані/{path.relative_to(source)}")
        packed = FORMATS[name].prepare(tmp_path / "packed", tmp_path / "всі.zip", **options)
    assert clips(packed) == clips(plain)


def test_a_home_and_paths_of_windows(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    made("arrays", tmp_path / "кліпи")
    (tmp_path / "list.csv").write_bytes("walk\\one.npy;стрибок\r\n".replace(";", ",").encode("utf-8-sig"))
    words = ["--layout", "kinect-v1", "--labels", "~/list.csv", "--out", "~/out", "--workers", "1"]
    assert main(["prepare", "auto", "--source", "~/кліпи", *words]) == 0
    assert open_dataset(tmp_path / "out").classes == ("стрибок",)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_texts_of_windows(tmp_path, name):
    """Line ends and a mark of the byte order change nothing."""
    options = made(name, tmp_path / "in")
    if name == "arrays":
        (path,) = (tmp_path / "in").rglob("*.npy")
        path.with_suffix(".txt").write_text(foreign.lines(np.load(path).reshape(-1, 3)))
        path.unlink()
    plain = FORMATS[name].prepare(tmp_path / "plain", tmp_path / "in", **options)
    for path in (tmp_path / "in").rglob("*.*"):
        text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        path.write_bytes(b"\xef\xbb\xbf" * (name != "ntu") + text + b"\r\n\r\n")
    odd = FORMATS[name].prepare(tmp_path / "odd", tmp_path / "in", **options)
    assert clips(odd) == clips(plain) and any(clips(plain)) and not odd.skipped


@pytest.mark.parametrize("name", sorted(TEXTS | {"nw-ucla", "utd-mhad", "pyskl", "openpose", "mediapipe"}))
def test_endings_in_large_letters(tmp_path, name):
    """As Windows and cameras have them; in an archive, too, whose own ending may be such."""
    options = made(name, tmp_path / "in")
    plain = FORMATS[name].prepare(tmp_path / "plain", tmp_path / "in", **options)
    with zipfile.ZipFile(tmp_path / "ALL.ZIP", "w") as archive:
        for path in sorted(path for path in (tmp_path / "in").rglob("*") if path.is_file()):
            path = path.rename(path.with_suffix(path.suffix.upper()))
            archive.write(path, path.relative_to(tmp_path / "in"))
    for source in (tmp_path / "in", tmp_path / "ALL.ZIP"):
        other = FORMATS[name].prepare(tmp_path / f"{source.name}-out", source, **options)
        assert clips(other) == clips(plain) and any(clips(plain)) and not other.skipped


def packed_forms(folder, change, bodies):
    """The forms of arrays that are one file, of three changed clips, and the clips."""
    rng = np.random.default_rng(0)
    raws = [change(rng.normal(0, 9, (3, frames, 25, bodies)).astype(np.float32)) for frames in (9, 7, 8)]
    some = [Raw(f"c{i}", i % 2, "train" if i else "test", np.asarray(raw)) for i, raw in enumerate(raws)]
    x = change(np.concatenate([np.asarray(raw).transpose(1, 2, 0, 3) for raw in raws]))
    np.savez(folder / "a.npz", x=x, len=[9, 7, 8], y=["sit", "walk", "sit"])
    np.savez_compressed(folder / "b.npz", x=x, len=np.array([9, 7, 8], ">i2"), y=[0, 1, 0])
    foreign.write_pyskl(folder / "c.pkl", some, protocol=2)
    yield "npz", folder / "a.npz", {"layout": "ntu-rgb+d", "test": "list=test.txt"}
    yield "npz", folder / "b.npz", {"layout": "ntu-rgb+d", "test": "list=test.txt"}
    yield "pyskl", folder / "c.pkl", {"persons": bodies}
    if bodies == 2:
        foreign.write_ctrgcn(folder / "d.npz", some)
        entries = {name: change(array) for name, array in np.load(folder / "d.npz").items()}
        np.savez(folder / "d.npz", **entries)
        yield "ctrgcn", folder / "d.npz", {}


@pytest.mark.parametrize("about", CHANGES)
@pytest.mark.parametrize("bodies", [1, 2, 3])
def test_numbers(tmp_path, monkeypatch, about, bodies):
    monkeypatch.chdir(tmp_path)
    change = CHANGES[about]
    rng = np.random.default_rng(0)
    raws = [rng.normal(0, 9, (3, frames, 25, bodies)).astype(np.float32) for frames in (9, 7, 8)]
    for form, path, options in packed_forms(tmp_path, change, bodies):
        (tmp_path / "test.txt").write_text(f"{path.stem}-0\r\n")
        with preparing(Preparation(Preprocessing(center="none", align="none", sampling="none", frames=9))):
            prepared = FORMATS[form].prepare(tmp_path / f"{path.name}-out", path, **options)
        assert (len(prepared["train"]), len(prepared["test"])) == (2, 1), path
        expected = np.asarray(change(raws[0]), np.float32)
        expected = foreign.moved(expected) if form == "ctrgcn" else expected
        np.testing.assert_allclose(prepared["test"].clips[0], expected, atol=1e-5, err_msg=path.name)
        if path.name == "a.npz":
            assert prepared.classes == ("sit", "walk") and prepared["train"].labels.tolist() == [1, 0]


def test_labels_of_an_archive_may_be_names(tmp_path):
    x = np.random.default_rng(0).normal(size=(3, 300, 150)).astype(np.float32)
    y = np.array(["ходити", "sit", "sit"])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:1], y_test=y[:1])
    prepared = FORMATS["ctrgcn"].prepare(tmp_path / "out", tmp_path / "a.npz")
    assert prepared.classes == ("sit", "ходити")
    assert (prepared["train"].labels.tolist(), prepared["test"].labels.tolist()) == ([1, 0, 0], [1])


def test_one_clip_and_two_coordinates(tmp_path):
    x = np.random.default_rng(0).normal(size=(6, 17, 2)).astype(np.float16)
    np.savez(tmp_path / "one.npz", x=x, len=[6], y=[0])
    prepared = FORMATS["npz"].prepare(tmp_path / "out", tmp_path / "one.npz", "coco", test="ratio=0.5")
    assert len(prepared["train"]) + len(prepared["test"]) == 1
    assert prepared.prepared["planar"] and not prepared["train"].clips[:, 2].any()


@pytest.mark.parametrize("form", ["npz", "arrays"])
def test_another_layout_is_named(tmp_path, form):
    options = made(form, tmp_path / "in")
    source = tmp_path / "in" / "clips.npz" if form == "npz" else tmp_path / "in"
    with pytest.raises(InputError, match=r"expected (17 joints|frames of 17 joints).*, found (20|shape)"):
        FORMATS[form].prepare(tmp_path / "out", source, **{**options, "layout": "coco"})


def test_three_bodies_of_ntu(tmp_path):
    """As many as are asked for, by how they move; the first two of three are what two are."""
    people = [random_joints(seed, scale) for seed, scale in enumerate((1.0, 3.0, 2.0))]
    frames = [[(number, joints * (1 + 0.1 * t)) for number, joints in enumerate(people)] for t in range(6)]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "S001C001P001R001A001.skeleton").write_bytes(file_text(frames))
    made = {}
    for count in (1, 2, 3):
        with preparing(Preparation(Preprocessing(num_bodies=count, frames=6))):
            prepare = FORMATS["ntu"].prepare
            prepared = prepare(tmp_path / f"{count}", tmp_path / "raw", "ntu60-xsub", workers=1)
        made[count] = prepared["train"].clips[0]
    assert made[3].any(axis=(0, 1, 2)).all() and made[3].shape[3] == 3
    np.testing.assert_array_equal(made[3][..., :2], made[2])
    np.testing.assert_array_equal(made[2][..., :1], made[1])
