"""`prepare` of the formats but NTU's: real files, files as they ship, wrong settings, broken files."""

import json
import zipfile

import numpy as np
import pytest
from scipy.io import savemat

from ikem_fast.data import open_dataset, preprocess_clip
from ikem_fast.data.formats import nw_ucla, pku_mmd, sbu, smarthome, uav_human, utd_mhad
from ikem_fast.data.formats.npz import prepare_npz
from ikem_fast.data.formats.nw_ucla import prepare_nw_ucla
from ikem_fast.data.formats.synthetic import prepare_synthetic
from ikem_fast.data.formats.utd_mhad import prepare_utd_mhad
from ikem_fast.errors import InputError
from tests.helpers import contents


@pytest.mark.parametrize(
    ("name", "layout", "train", "counts"),
    [
        ("utd_mhad", "utd-mhad", "subject=1,3,5,7", (431, 430, 27, 20, 1)),
        ("nw_ucla", "kinect-v1", "view=1,2", (1020, 464, 10, 20, 1)),
        ("sbu", "sbu", "subject=s01s02, s03s04, s05s02, s06s04", (55, 227, 8, 15, 2)),
    ],
)
def test_npz(shared, tmp_path, name, layout, train, counts):
    path = shared / "data" / f"{name}.npz"
    dataset = prepare_npz(tmp_path / "out", path, layout, train)
    found = (
        len(dataset["train"]),
        len(dataset["test"]),
        len(dataset.classes),
        dataset.num_joints,
        dataset.num_bodies,
    )
    assert found == counts and dataset.skipped == () and dataset.name == name
    packed = np.load(path)
    index = int(dataset["test"].names[-1].rsplit("-", 1)[1])
    start = packed["len"][:index].sum()
    raw = packed["x"][start : start + packed["len"][index]].reshape(
        -1, *dataset["test"].clips.shape[3:4], 3, counts[4]
    )
    expected = preprocess_clip(raw.transpose(2, 0, 1, 3), layout=layout)
    np.testing.assert_array_equal(dataset["test"].clips[-1], expected)
    assert dataset["test"].labels[-1] == packed["y"][index]


def test_npz_settings(tmp_path):
    lengths = np.array([3, 2])
    np.savez(
        tmp_path / "a.npz", x=np.ones((5, 15, 3), np.float32), len=lengths, y=lengths, view=np.array([1, 2])
    )
    wrong = {
        ("sbu", "views=1"): (
            "train: expected attribute=value,value,… with an attribute among view, or list=FILE, .*, "
            "found 'views=1'"
        ),
        ("sbu", "view"): "train: expected attribute=value",
        ("sbu", "view="): "train: expected attribute=value",
        ("sbu", "view=1,3"): r"train: expected values of 'view' that are in .*a\.npz \(1, 2\), found 3",
        ("ntu-rgb+d", "view=1"): "expected 25 joints for layout ntu-rgb\\+d, found 15",
        ("octopus", "view=1"): "layout: expected one of",
    }
    for (layout, train), message in wrong.items():
        with pytest.raises(InputError, match=message):
            prepare_npz(tmp_path / "out", tmp_path / "a.npz", layout, train)
    np.savez(
        tmp_path / "b.npz", x=np.ones((5, 15, 3)), len=lengths, y=lengths, view=np.array([b"\xff", b"a"])
    )
    with pytest.raises(InputError, match=r"train: expected text or numbers in 'view' of .*b\.npz"):
        prepare_npz(tmp_path / "out", tmp_path / "b.npz", "sbu", "view=a")
    dataset = prepare_npz(tmp_path / "out", tmp_path / "a.npz", "sbu", "view=1", name="ones")
    assert (dataset.name, dataset["train"].names.tolist()) == ("ones", ["ones-0"])


def test_npz_without_a_body(tmp_path):
    x = np.ones((5, 15, 3), np.float32)
    x[3:] = 0
    x[1, 3] = np.nan
    np.savez(tmp_path / "a.npz", x=x, len=np.array([1, 2, 2]), y=np.zeros(3, int), view=np.ones(3, int))
    with pytest.raises(
        InputError, match=r"out: expected at least 50% of the clips to be usable, found 1 of 3"
    ):
        prepare_npz(tmp_path / "out", tmp_path / "a.npz", "sbu", "view=1")
    dataset = open_dataset(tmp_path / "out")
    assert [name for name, _ in dataset.skipped] == ["a-1", "a-2"]
    assert "NaN" in dataset.skipped[0][1] and "expected a body" in dataset.skipped[1][1]


def test_utd_mhad(tmp_path):
    rng = np.random.default_rng(0)
    clips = {
        f"a{a}_s{s}_t1_skeleton": rng.normal(size=(20, 3, 41 + s)) for a, s in ((1, 1), (27, 2), (10, 7))
    }
    (tmp_path / "Skeleton").mkdir()
    for name, joints in clips.items():
        savemat(tmp_path / "Skeleton" / f"{name}.mat", {"d_skel": joints}, do_compression="27" in name)
    savemat(tmp_path / "Skeleton" / "a2_s1_t1_skeleton.mat", {"other": 1})
    savemat(tmp_path / "Skeleton" / "a3_s1_t1_skeleton.mat", {"d_skel": np.zeros((19, 3, 9))})
    (tmp_path / "Skeleton" / "a4_s1_t1_skeleton.mat").write_bytes(b"not MATLAB")
    whole = (tmp_path / "Skeleton" / "a1_s1_t1_skeleton.mat").read_bytes()
    (tmp_path / "Skeleton" / "a5_s1_t1_skeleton.mat").write_bytes(whole[:3000])
    savemat(tmp_path / "Skeleton" / "a28_s1_t1_skeleton.mat", {"d_skel": clips["a1_s1_t1_skeleton"]})
    with pytest.raises(InputError, match="found 3 of 8"):
        prepare_utd_mhad(tmp_path / "out", tmp_path)
    dataset = open_dataset(tmp_path / "out")
    assert dataset["train"].names.tolist() == ["a10_s7_t1_skeleton", "a1_s1_t1_skeleton"]
    assert dataset["test"].names.tolist() == ["a27_s2_t1_skeleton"]
    assert dataset["train"].labels.tolist() == [9, 0] and dataset["test"].labels.tolist() == [26]
    assert dataset["train"].frames.tolist() == [48, 42]
    raw = clips["a27_s2_t1_skeleton"].transpose(1, 2, 0)[..., None].astype(np.float32)
    np.testing.assert_array_equal(dataset["test"].clips[0], preprocess_clip(raw, layout="utd-mhad"))
    assert len(dataset.classes) == len(set(dataset.classes)) == 27
    reasons = [reason for _, reason in sorted(dataset.skipped)]
    assert len(reasons) == 5 and "expected a name such as a1_s1_t1_skeleton.mat" in reasons[0]
    assert [reason.partition(", found")[0] for reason in reasons[1:]] == [
        "expected a MATLAB file with a variable 'd_skel'",
        "expected 'd_skel' of shape (20, 3, frames)",
        "expected a MATLAB 5 file, little endian",
        "expected an element of 20224 bytes",
    ]


def test_nw_ucla(tmp_path):
    rng = np.random.default_rng(0)
    clips = {f"a{a:02d}_s01_e00_v{v:02d}": rng.normal(size=(9, 20, 3)) for a, v in ((1, 1), (12, 3), (8, 2))}
    with zipfile.ZipFile(tmp_path / "all_sqe.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, joints in clips.items():
            archive.writestr(
                f"all_sqe/{name}.json", json.dumps({"file_name": name, "skeletons": joints.tolist()})
            )
        broken = ['{"skeletons": 1}', "{}", "[", "[" * 100_000, '{"skeletons": [[1, 2], [3]]}']
        for action, content in enumerate(broken, 1):
            archive.writestr(f"all_sqe/a{action:02d}_s02_e00_v01.json", content)
        archive.writestr("all_sqe/a07_s01_e00_v01.json", "{}")
    with pytest.raises(InputError, match="found 3 of 9"):
        prepare_nw_ucla(tmp_path / "out", tmp_path)
    dataset = open_dataset(tmp_path / "out")
    assert dataset["train"].names.tolist() == ["a01_s01_e00_v01", "a08_s01_e00_v02"]
    assert dataset["train"].labels.tolist() == [0, 6] and dataset["test"].labels.tolist() == [9]
    raw = clips["a12_s01_e00_v03"].transpose(2, 0, 1)[..., None].astype(np.float32)
    np.testing.assert_array_equal(dataset["test"].clips[0], preprocess_clip(raw, layout="kinect-v1"))
    assert len(dataset.skipped) == 6 and len(dataset.classes) == 10
    assert all(reason.startswith("expected ") for _, reason in dataset.skipped)


@pytest.mark.parametrize("odd", ['"1"', "true", "null", "[1]"])
def test_json_numbers_are_numbers(odd):
    frame = "[" + ",".join(["[1, 2.5, 3]"] * 19) + ",[1, 2, %s]]"
    assert nw_ucla.parse_clip(f'{{"skeletons": [{frame % 3}]}}'.encode()).shape == (3, 1, 20, 1)
    with pytest.raises(ValueError, match="expected 'skeletons' to be numbers"):
        nw_ucla.parse_clip(f'{{"skeletons": [{frame % odd}]}}'.encode())


@pytest.mark.parametrize(
    ("skeletons", "found"),
    [
        ("[]", "nothing, no joints a frame, no numbers each"),
        ("5", "something else"),
        ('"abc"', "str, 1 joints a frame, 1 numbers each"),
        ("[[1, 2, 3]]", "something else"),
        (f"[{[[1, 2, 3]] * 20}, {[[1, 2, 3]] * 19}]", "float, 19 or 20 joints a frame, 3 numbers each"),
        (f"[{[[1.5, 2]] * 20}]", "float, 20 joints a frame, 2 numbers each"),
        (f"[{[[1.5, 2, '3']] * 20}]".replace("'", '"'), "float and str, 20 joints a frame"),
        (f"[{[dict.fromkeys('abc', 1.0)] * 20}]".replace("'", '"'), "something else|str, 20 joints"),
    ],
)
def test_json_of_another_shape_is_described(skeletons, found):
    with pytest.raises(ValueError, match=rf"numbers \(frames, 20, 3\), found ({found})"):
        nw_ucla.parse_clip(f'{{"skeletons": {skeletons}}}'.encode())


def test_json_numbers_are_those_of_the_file():
    """The same bits as without this reader; numbers beyond float32 are infinite, without a warning."""
    values = np.random.default_rng(0).normal(size=(2, 20, 3)) * 10.0 ** np.arange(-30, 30).reshape(20, 3)
    values[0, 0] = 1e300, -1e39, 5e-324
    values[0, 1] = 3, 2**60 + 1, np.inf
    content = json.dumps({"skeletons": values.tolist()}).replace("3.0", "3").replace("Infinity", "9" * 400)
    clip = nw_ucla.parse_clip(content.encode())
    with np.errstate(over="ignore"):
        expected = np.array(values, np.float32).transpose(2, 0, 1)[..., None]
    np.testing.assert_array_equal(clip, expected)


def test_synthetic(tmp_path):
    dataset = prepare_synthetic(tmp_path / "out", clips_per_class=6, seed=1)
    assert (len(dataset["train"]), len(dataset["test"]), len(dataset.classes)) == (48, 24, 12)
    assert np.isfinite(dataset["train"].clips).all() and dataset["train"].clips.any(axis=(1, 2, 3, 4)).all()
    assert (dataset["train"].frames <= 120).all() and dataset.skipped == ()
    again = prepare_synthetic(tmp_path / "again", clips_per_class=6, seed=1)
    assert contents(again.folder) == contents(dataset.folder)
    assert open_dataset(tmp_path / "out").prepared["seed"] == 1
    short = prepare_synthetic(tmp_path / "short", clips_per_class=3, frames=20)
    assert short["train"].clips.shape[2] == short.num_frames == 20
    for wrong, message in (
        ({"clips_per_class": 2}, "clips_per_class: expected 3 "),
        ({"clips_per_class": 10**9}, "clips_per_class: expected .* found 1000000000"),
        ({"frames": 10**9}, "frames: expected 1 … 10000, found 1000000000"),
        ({"seed": -1}, "seed:"),
        ({"frames": 0}, "frames: expected 1 "),
    ):
        with pytest.raises(InputError, match=message):
            prepare_synthetic(tmp_path / "wrong", **wrong)


def test_names():
    assert utd_mhad.parse_name("a27_s8_t4_skeleton") == (27, 8, 4)
    assert nw_ucla.parse_name("a12_s10_e05_v03") == (12, 10, 5, 3)
    for name in ("a0_s1_t1_skeleton", "a28_s1_t1_skeleton", "a1_s9_t1_skeleton", "a1_s1_t1_inertial", ""):
        assert utd_mhad.parse_name(name) is None
    for name in ("a07_s01_e00_v01", "a01_s01_e00_v04", "a1_s1_e0_v1", ""):
        assert nw_ucla.parse_name(name) is None


TOO_LARGE = " ".join(["1e300"] * 3)


@pytest.mark.parametrize(
    ("parse", "content"),
    [
        (smarthome.parse_clip, json.dumps({"frames": [[{"pose3d": [1e300] * 39}]]})),
        (uav_human.parse_clip, "1\n1\nbody\n17\n" + f"{TOO_LARGE}\n" * 17),
        (sbu.parse_clip, ",".join(["1"] + ["1e300"] * 90)),
        (pku_mmd.parse_clip, " ".join(["1e300"] * 150)),
    ],
    ids=["smarthome", "uav-human", "sbu", "pku-mmd"],
)
@pytest.mark.filterwarnings("error")
def test_numbers_beyond_float32_are_infinite_without_a_warning(parse, content):
    assert np.isinf(parse(content.encode())[..., 0]).all()
