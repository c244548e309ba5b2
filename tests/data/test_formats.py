"""The table of formats: what every one of them offers, and that each knows its own files and no other's."""

import inspect
import json
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from scipy.io import savemat

from ikem_fast.cli import all_commands
from ikem_fast.cli.detected import with_format
from ikem_fast.data import FORMATS, Dataset
from ikem_fast.data.formats import find_format
from ikem_fast.errors import InputError
from tests.data import foreign
from tests.data.foreign import Raw, write_agcn, write_crossclr, write_ctrgcn, write_pyskl

FRAMES = np.random.default_rng(0).normal(size=(7, 20, 3)).astype(np.float32)


def ntu(folder):
    joint = " ".join(["0.5"] * 12)
    lines = ["7", *["\n".join(["1", "9 0 1 1 1 1 0 0 0 2", "25", *[joint] * 25])] * 7]
    (folder / "S001C001P001R001A001.skeleton").write_text("\n".join(lines))


def nw_ucla(folder):
    (folder / "a01_s01_e00_v01.json").write_text(json.dumps({"skeletons": FRAMES.tolist()}))


def utd_mhad(folder):
    savemat(folder / "a1_s1_t1_skeleton.mat", {"d_skel": FRAMES.transpose(1, 2, 0)})


def npz(folder):
    np.savez(folder / "clips.npz", x=FRAMES, len=np.array([7]), y=np.array([0]))


def clips(joints):
    """A training clip and a test clip, both of FRAMES."""
    raw = np.zeros((3, 7, joints, 2), np.float32)
    raw[:, :, :20, 0] = FRAMES.transpose(2, 0, 1)
    return [Raw("one", 0, "train", raw), Raw("two", 0, "test", raw)]


def crossclr(folder):
    write_crossclr(folder, clips(25), lambda raw: (raw, 7), counts=False)


def agcn(folder):
    write_agcn(folder, clips(25), counts=False)


def ctrgcn(folder):
    write_ctrgcn(folder / "NTU60_CS.npz", clips(25))


def pyskl(folder):
    write_pyskl(folder / "ntu60_3danno.pkl", clips(25))


def raw(joints, bodies=1):
    clip = np.zeros((3, 7, joints, bodies), np.float32)
    clip[:, :, : min(joints, 20), 0] = FRAMES.transpose(2, 0, 1)[:, :, :joints]
    return clip


def sbu(folder):
    foreign.write_sbu(folder / "s01s02" / "01" / "001", raw(15, 2))


def msr_action3d(folder):
    foreign.write_msr(folder / "a01_s01_e01_skeleton3D.txt", raw(20))


def pku_mmd(folder):
    foreign.write_pku(folder, {"0002-L": [(1, raw(25, 2))], "0003-L": [(2, raw(25, 2))]}, ["0002-L"])


def uav_human(folder):
    foreign.write_uav(folder / "P000S00G10B10H10UC022000LC021000A000R0_08241716.txt", raw(17))


def smarthome(folder):
    foreign.write_smarthome(folder / "Cook.Cut_p03_r00_v02_c01_pose3d.json", raw(13))


def openpose(folder):
    foreign.write_openpose(folder / "walk", "one_", np.abs(raw(18)))


def arrays(folder):
    (folder / "walk").mkdir()
    np.save(folder / "walk" / "one.npy", FRAMES)


def mediapipe(folder):
    foreign.write_mediapipe(folder / "walk" / "one.json", raw(33))


def coco(folder):
    foreign.write_coco(folder / "walk" / "one.json", np.abs(raw(17)))


def bvh(folder):
    foreign.write_bvh(folder / "walk" / "one.bvh", np.ones((7, 15)))


def c3d(folder):
    ezc3d = pytest.importorskip("ezc3d")
    made = ezc3d.c3d()
    made["parameters"]["POINT"]["LABELS"]["value"] = ("A", "B")
    made["data"]["points"] = np.ones((4, 2, 7))
    made["parameters"]["POINT"]["RATE"]["value"] = [50]
    made.write(str(folder / "one.c3d"))


MAKERS = {
    "ntu": ntu, "nw-ucla": nw_ucla, "utd-mhad": utd_mhad, "npz": npz, "crossclr": crossclr, "agcn": agcn,
    "ctrgcn": ctrgcn, "pyskl": pyskl, "sbu": sbu, "msr-action3d": msr_action3d, "pku-mmd": pku_mmd,
    "uav-human": uav_human, "smarthome": smarthome, "openpose": openpose, "arrays": arrays,
    "mediapipe": mediapipe, "coco": coco, "bvh": bvh, "c3d": c3d,
}  # fmt: skip
ONE_FILE = {
    "ntu", "nw-ucla", "utd-mhad", "npz", "ctrgcn", "pyskl", "msr-action3d", "uav-human", "smarthome",
    "mediapipe", "coco", "bvh", "c3d",
}  # fmt: skip
FOLDERS = {"crossclr", "agcn", "openpose"}  # that are read as a whole


@pytest.mark.parametrize("name", FORMATS)
def test_options_can_be_made_of_it(name):
    """As the command line does: from annotations and a docstring that describes every parameter."""
    chosen = FORMATS[name]
    parameters = inspect.signature(chosen.prepare).parameters
    hints = get_type_hints(chosen.prepare)
    assert next(iter(parameters)) == "out" and hints["out"] is Path and hints["return"] is Dataset
    assert parameters.keys() | {"return"} == hints.keys()
    assert all(f"\n        {parameter}: " in chosen.prepare.__doc__ for parameter in parameters)
    assert chosen.name == name and chosen.summary.endswith(".")
    assert chosen.example.startswith(f"ikem-fast prepare {name} --")
    assert name == "synthetic" or "source" in parameters, "the one name of where clips come from"


def test_each_knows_its_own_files(tmp_path):
    assert MAKERS.keys() == {name for name, chosen in FORMATS.items() if chosen.read}
    for name, make in MAKERS.items():
        folder = tmp_path / name
        folder.mkdir()
        make(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = files[0] if name in ONE_FILE else folder
        seen = [other for other in FORMATS if FORMATS[other].detect(path)]
        assert name in seen and set(seen) <= {name, "arrays"}, "which any file of numbers may be"
        found, why = find_format(path)
        assert found.name == name and why
        path = path if name in ONE_FILE or name in FOLDERS else files[0]
        clip = next(FORMATS[name].read(path))
        assert (clip.dtype == np.float32 and clip.shape[:2] == (3, 7)) or name == "pku-mmd"
        if name in ("utd-mhad", "nw-ucla", "npz", "crossclr", "agcn", "pyskl", "msr-action3d", "arrays"):
            np.testing.assert_array_equal(clip[:, :, :20, 0], FRAMES.transpose(2, 0, 1))
        for file in files:
            file.write_bytes(file.read_bytes()[:100])
        with pytest.raises(
            InputError, match=r"\.(skeleton|c3d|bvh|json|mat|npz|npy|pkl|txt|walk).*: .*expected|walk"
        ):
            list(FORMATS[name].read(path))
    with pytest.raises(InputError, match=r"nowhere: expected a file or a folder"):
        find_format(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"expected clips of one of ntu, .*found none of them"):
        find_format(Path(__file__))
    with pytest.raises(InputError, match=r"found ntu \(.*nw-ucla \("):
        find_format(tmp_path)


def test_what_is_found_comes_with_its_usual_options(tmp_path, capsys):
    """Where they are not given already."""
    sbu(tmp_path)
    words = ["--source", str(tmp_path), "--out", "out"]
    for given, told in (([], True), (["--fold=2", "--up", "y-down", "--center=pair", "--align=pair"], False)):
        command, rest = with_format(all_commands()["prepare auto"], [*words, *given])
        assert command.name == "prepare sbu" and rest == [*words, *given]
        out = capsys.readouterr().out
        assert out.startswith("format: sbu (")
        usual = f"usual options of it: ikem-fast prepare sbu --source {tmp_path} --fold 1 --up y-down "
        assert (usual in out) == told and ("--align pair --out out\n" in out) == told


def test_sbu_is_taken_packed_too(tmp_path, capsys):
    """With its folds, the names of its actions, and as the same clips; `auto` knows it by its pairs."""
    pairs, labels = ["s01s02", "s02s03", "s01s03", "s03s02", "s06s03"], [0, 3, 4, 7, 1]
    raws = [raw(15, 2) + number for number in range(5)]  # (3, 7, 15, 2)
    for number, (pair, label) in enumerate(zip(pairs, labels, strict=True)):
        foreign.write_sbu(tmp_path / "raw" / pair / f"{label + 1:02d}" / "001", raws[number])
    x = np.concatenate([one.transpose(1, 2, 0, 3) for one in raws])
    np.savez(tmp_path / "all.npz", x=x, len=[7] * 5, y=labels, subject=pairs)
    for fold in range(1, 6):
        made = [
            FORMATS["sbu"].prepare(tmp_path / f"{source}{fold}", tmp_path / source, fold=fold)
            for source in ("all.npz", "raw")
        ]
        packed, files = (dataset["test"] for dataset in made)
        assert packed.subjects.tolist() == files.subjects.tolist() == [pairs[fold - 1]]
        np.testing.assert_array_equal(packed.clips, files.clips)
        assert made[0].classes == made[1].classes and packed.labels == files.labels
    assert find_format(tmp_path / "all.npz")[0].name == "sbu"
    assert next(FORMATS["sbu"].read(tmp_path / "all.npz")).shape == (3, 7, 15, 2)
    np.savez(tmp_path / "others.npz", x=x, len=[7] * 5, y=labels, subject=list("abcde"))
    assert find_format(tmp_path / "others.npz")[0].name == "npz"
    with pytest.raises(
        InputError, match="expected pairs such as s01s02 as 'subject' of each clip, found a, b"
    ):
        FORMATS["sbu"].prepare(tmp_path / "o", tmp_path / "others.npz")
    np.savez(tmp_path / "more.npz", x=x, len=[7] * 5, y=[8] * 5, subject=pairs)
    with pytest.raises(InputError, match=r"expected 15 joints, 2 bodies and actions 0 … 7, .* up to 8"):
        FORMATS["sbu"].prepare(tmp_path / "o", tmp_path / "more.npz")


def test_what_is_found_of_a_packed_file_is_what_is_in_it(tmp_path, capsys):
    """Layouts of as many joints, attributes with their values, and a split by one of them."""
    packed = {"x": np.zeros((6, 20, 3), np.float32), "len": [1] * 6, "y": [0, 1] * 3}
    np.savez(tmp_path / "a b.npz", **packed, view=[3, 2, 1, 1, 2, 3], subject=[10, 9, 8, 8, 9, 10])
    source = str(tmp_path / "a b.npz")
    with_format(all_commands()["prepare auto"], ["--source", source, "--out", "data/mine"])
    out = capsys.readouterr().out
    assert "20 joints (layouts: kinect-v1, msr-action3d, utd-mhad) of 1 body" in out
    assert "view of each: 1 2 3" in out and "subject of each: 8 9 10" in out
    usual = f"prepare npz --source '{source}' --layout LAYOUT --train subject=8,10 --out data/mine\n"
    assert out.endswith(usual)
    np.savez(tmp_path / "c.npz", **packed | {"x": np.zeros((6, 24, 3))})
    with_format(all_commands()["prepare auto"], ["--source", str(tmp_path / "c.npz"), "--out=o"])
    assert "--layout smpl --train ratio=0.8 --out o\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ntu", {"protocol": "ntu60-xsub", "workers": 1}),
        ("nw-ucla", {"workers": 1}),
        ("utd-mhad", {"workers": 1}),
    ],
)
def test_who_was_recorded_is_kept(tmp_path, name, options):
    (tmp_path / "raw").mkdir()
    MAKERS[name](tmp_path / "raw")
    dataset = FORMATS[name].prepare(tmp_path / "out", tmp_path / "raw", **options)
    assert dataset["train"].subjects.tolist() == ["1"]
    people = FORMATS["synthetic"].prepare(tmp_path / "people", clips_per_class=3)
    assert set(people["train"].subjects) & set(people["test"].subjects) == set()


@pytest.mark.parametrize("name", ["ntu", "nw-ucla", "utd-mhad"])
def test_a_folder_of_clips_is_known(tmp_path, name):
    (tmp_path / "deep").mkdir()
    MAKERS[name](tmp_path / "deep")
    assert [other for other in FORMATS if FORMATS[other].detect(tmp_path)] == [name]


def without_labels(folder):
    agcn(folder)
    (folder / "val_label.pkl").unlink()


def in_two_folders(folder):
    for name in ("xsub", "xview"):
        (folder / name).mkdir()
        crossclr(folder / name)


def without_test_labels(folder):
    ctrgcn(folder)
    (path,) = folder.glob("*.npz")
    entries = dict(np.load(path))
    del entries["y_test"]
    np.savez(path, **entries)


def of_more_frames(folder):
    np.savez(folder / "clips.npz", x=FRAMES, len=np.array([9]), y=np.array([0]))


def of_a_wrong_action(folder):
    pku_mmd(folder)
    (folder / "Train_Label_PKU_final" / "0003-L.txt").write_text("77,1,2,1\n")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (without_labels, r"val_data_joint\.npy: expected val_label\.pkl"),
        (in_two_folders, r"found some in each of .*xsub, .*xview; choose one"),
        (without_test_labels, r"CS\.npz: expected an \.npz with x_train, y_train, x_test and y_test"),
        (of_more_frames, r"clips\.npz: expected 'x' to have 9 frames, the sum of 'len', found 7"),
        (of_a_wrong_action, r"0003-L\.txt: expected action 1 … 51"),
    ],
)
def test_what_a_format_refuses_is_said_by_it(tmp_path, make, said):
    """Not that nothing was found."""
    make(tmp_path)
    path = next(tmp_path.glob("*.npz"), tmp_path)
    chosen, _why = find_format(path)
    options = {"layout": "kinect-v1"} if chosen.name == "npz" else {}
    with pytest.raises(InputError, match=said):
        chosen.prepare(tmp_path / "out", path, **options)
    assert not (tmp_path / "out").exists()
