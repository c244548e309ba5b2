"""Datasets of texts and JSON files, of one's own and of others: what their files say is what is prepared."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import FORMATS, open_dataset, preprocess_clips
from ikem_fast.data.formats import pku_mmd, sbu, smarthome, uav_human
from ikem_fast.data.formats.bodies import link_bodies
from ikem_fast.data.preparation import Preparation, Rules, preparing
from ikem_fast.errors import InputError
from ikem_fast.skeleton import get_layout
from tests.data import foreign

RNG = np.random.default_rng(0)


def some_raw(joints, bodies=1, frames=12):
    return RNG.normal(size=(3, frames, joints, bodies)).astype(np.float32)


def check(split, name, raw, layout):
    """That a clip of a split is the raw clip, preprocessed."""
    (expected,) = preprocess_clips([raw], layout=layout)
    row = split.names.tolist().index(name)
    np.testing.assert_allclose(split.clips[row], expected.coordinates, atol=1e-6, rtol=0)
    assert split.frames[row] == expected.frames
    return row


def test_msr_action3d(tmp_path):
    raws = {f"a{a:02d}_s{s:02d}_e01_skeleton3D": some_raw(20) for a, s in ((1, 1), (20, 2), (7, 9))}
    for name, raw in raws.items():
        foreign.write_msr(tmp_path / f"{name}.txt", raw)
    content = (tmp_path / "a01_s01_e01_skeleton3D.txt").read_bytes()
    (tmp_path / "a01_s01_e01_skeleton3D.txt").write_bytes(content.replace(b"\n", b" \r\n") + b"\r\n")
    (tmp_path / "a02_s01_e01_skeleton3D.txt").write_bytes(content[: content.rindex(b"\n", 0, -1)])
    dataset = FORMATS["msr-action3d"].prepare(tmp_path / "out", tmp_path, workers=1)
    assert dataset.layout == "msr-action3d" and dataset.classes[19] == "pick up and throw"
    assert dataset["test"].labels.tolist() == [19] and sorted(dataset["train"].subjects) == ["1", "9"]
    for name, raw in raws.items():
        check(dataset["test" if "_s02" in name else "train"], name, raw, "msr-action3d")
    assert "a02_s01_e01_skeleton3D: expected 20 lines a frame, found 239" in str(
        ": ".join(dataset.skipped[0])
    )


def test_sbu_as_it_ships_is_sbu_as_it_is_packed(shared, tmp_path):
    packed = np.load(shared / "data" / "sbu.npz")
    clips = np.split(packed["x"], np.cumsum(packed["len"])[:-1])
    for number in range(0, len(clips), 12):
        folder = f"{packed['subject'][number]}/{packed['y'][number] + 1:02d}/{number:03d}"
        foreign.write_sbu(tmp_path / "in" / folder, clips[number].transpose(2, 0, 1, 3))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in (tmp_path / "in").rglob("*.txt"):
            archive.write(path, path.relative_to(tmp_path / "in"))
    for source in (tmp_path / "in", tmp_path / "all.zip"):
        dataset = FORMATS["sbu"].prepare(tmp_path / f"{source.name}-out", source, fold=2, workers=1)
        assert dataset.skipped == () and (dataset.num_bodies, len(dataset.classes)) == (2, 8)
        assert set(dataset["test"].subjects) <= set(sbu.FOLDS[1])
        for number in range(0, len(clips), 12):
            subject, label = str(packed["subject"][number]), packed["y"][number]
            split = dataset["test" if subject in sbu.FOLDS[1] else "train"]
            name = f"{subject}_a{label + 1:02d}_e{number:03d}"
            row = check(split, name, clips[number].transpose(2, 0, 1, 3), "sbu")
            assert split.labels[row] == label and split.subjects[row] == subject


@pytest.mark.parametrize("names", [("0002-L", "0003-M"), ("A01N01-L", "A01N02-R")])
def test_pku_mmd(tmp_path, names):
    clips = {names[0]: [(1, some_raw(25, 2)), (51, some_raw(25, 2))], names[1]: [(43, some_raw(25, 2))]}
    clips[names[0]][1][1][..., 1] = 0
    foreign.write_pku(tmp_path, clips, names[:1])
    dataset = FORMATS["pku-mmd"].prepare(tmp_path / "out", tmp_path, workers=1)
    assert dataset["train"].labels.tolist() == [0, 50] and dataset["test"].labels.tolist() == [42]
    check(dataset["train"], f"{names[0]}_00003", clips[names[0]][0][1], "ntu-rgb+d")
    check(dataset["train"], f"{names[0]}_00018", clips[names[0]][1][1], "ntu-rgb+d")
    check(dataset["test"], f"{names[1]}_00003", clips[names[1]][0][1], "ntu-rgb+d")
    assert len(set(pku_mmd.ACTIONS)) == 51 and list(pku_mmd.ACTIONS) == sorted(pku_mmd.ACTIONS)
    of_two = "giving something to|handshaking|hugging|kicking other|pat on|point finger|punching|pushing"
    found = [number for number, action in enumerate(pku_mmd.ACTIONS, 1) if re.match(of_two, action)]
    assert found == [12, 14, 16, 18, 21, 24, 26, 27]  # as published code lists them
    with pytest.raises(InputError, match=r"expected the list cross-view\.txt there, found 0"):
        FORMATS["pku-mmd"].prepare(tmp_path / "out2", tmp_path, protocol="xview")
    label = tmp_path / "Train_Label_PKU_final" / f"{names[1]}.txt"
    label.write_text("43,3,99,2\n")
    long = FORMATS["pku-mmd"].prepare(tmp_path / "out3", tmp_path, workers=1)
    assert long.skipped == ((f"{names[1]}_00003", "expected frames up to 99, found a recording of 15"),)
    assert pku_mmd.parse_labels(b"43,99,3,2\n") == [(43, 3, 99)]  # the dataset has such lines
    for text in ("52,3,9,2", "1,9,9,2", "1,-1,3,2", "a,b,c"):
        label.write_text(text)
        with pytest.raises(InputError, match=rf"{names[1]}\.txt: expected"):
            FORMATS["pku-mmd"].prepare(tmp_path / "out4", tmp_path)


def test_uav_human(tmp_path):
    names = [
        f"P{p:03d}S00G10B10H10UC022000LC021000A{a:03d}R0_08241716" for p, a in ((0, 0), (1, 154), (3, 7))
    ]
    raws = [some_raw(17, 2), some_raw(17, 2), some_raw(17, 2)]
    raws[1][..., 1] = 0
    for name, raw in zip(names, raws, strict=True):
        foreign.write_uav(tmp_path / f"{name}.txt", raw)
    found = uav_human.parse_clip((tmp_path / f"{names[1]}.txt").read_bytes())
    np.testing.assert_array_equal(found, raws[1])
    for protocol, train in (("v1", names[:1]), ("v2", [names[0], names[2]])):
        dataset = FORMATS["uav-human"].prepare(tmp_path / protocol, tmp_path, protocol, workers=1)
        assert dataset["train"].names.tolist() == train and len(dataset.classes) == 155
        check(dataset["test"], names[1], raws[1], "coco")
    assert [len(subjects) for subjects in uav_human.TRAIN_SUBJECTS.values()] == [89, 89]
    for text in ("1\n1\n0\n25\n", "1\n1\n", "-1\n", "1\n99\n", "2.5\n", "x\n"):
        with pytest.raises(ValueError, match="expected"):
            uav_human.parse_clip(text.encode())


def test_smarthome(tmp_path):
    names = [f"{action}_p{p:02d}_r00_v02_c{c:02d}" for action, p, c in
             (("Walk", 3, 1), ("Cook.Cut", 25, 3), ("Walk", 2, 2), ("Drink.Fromcup", 3, 5))]  # fmt: skip
    raws = [some_raw(13) for _ in names]
    for name, raw in zip(names, raws, strict=True):
        (tmp_path / "in").mkdir(exist_ok=True)
        foreign.write_smarthome(tmp_path / "in" / f"{name}_pose3d.json", raw)
    cross = FORMATS["smarthome"].prepare(tmp_path / "cs", tmp_path / "in", workers=1)
    assert cross.classes == ("Cook.Cut", "Drink.Fromcup", "Walk") and len(cross["train"]) == 3
    check(cross["test"], f"{names[2]}_pose3d", raws[2], "smarthome-13")
    views = FORMATS["smarthome"].prepare(tmp_path / "cv2", tmp_path / "in", "cv2", workers=1)
    assert views.skipped == () and views.classes == ("Cook.Cut", "Walk")
    assert views["train"].names.tolist() == [f"{names[1]}_pose3d", f"{names[0]}_pose3d"]
    for content in (
        "[]",
        "{}",
        '{"frames": 1}',
        '{"frames": [[{"pose3d": [1, 2]}]]}',
        '{"frames": [[3]]}',
        "[",
    ):
        with pytest.raises(ValueError, match="expected"):
            smarthome.parse_clip(content.encode())


@pytest.mark.parametrize("seed", range(40))
def test_a_person_alone_is_followed_as_several_are(monkeypatch, seed):
    """Through gaps, joints that were not found and leaps: the quick way of following one is the other's."""
    rng = np.random.default_rng(seed)
    person, frames = rng.normal(size=(5, 3)), []
    for _ in range(12):
        person = person + rng.normal(size=3) * rng.choice([0.1, 1, 3, 9], p=[0.7, 0.1, 0.1, 0.1])
        seen = np.where(rng.random((5, 1)) < rng.choice([0.0, 0.3, 1.0], p=[0.6, 0.35, 0.05]), 0, person)
        frames.append(
            seen[None].astype(np.float32) if rng.random() < 0.9 else np.zeros((0, 5, 3), np.float32)
        )
    for bodies in (1, 2, None):
        quick = link_bodies(frames, bodies)
        with monkeypatch.context() as patch:
            patch.setattr("ikem_fast.data.formats.bodies._of_one_track", lambda frames: None)
            np.testing.assert_array_equal(link_bodies(frames, bodies), quick)


def test_people_are_followed():
    walks = np.zeros((30, 2, 17, 3), np.float32)
    walks[:, 0] = RNG.normal(size=(17, 3)) * 50 + 300 + np.arange(30)[:, None, None] * 4
    walks[:, 1] = RNG.normal(size=(17, 3)) * 50 + 900
    frames = [walks[t, :: 1 if t % 3 else -1] for t in range(30)]
    frames[10] = frames[10][:0]
    frames[20] = frames[20][(frames[20][:, 0, 0] > 700)]
    frames[5] = np.concatenate([frames[5], np.full((1, 17, 3), 5, np.float32)])
    clip = link_bodies(frames, 2)
    assert clip.shape == (3, 30, 17, 2) and not clip[:, 10].any()
    second = 0  # who is seen longer is first
    for t in set(range(30)) - {10, 20}:
        np.testing.assert_array_equal(clip[:, t, :, second].T, walks[t, 1])
        np.testing.assert_array_equal(clip[:, t, :, 1 - second].T, walks[t, 0])
    assert not clip[:, 20, :, 1].any() and clip[:, 20, :, 0].any()
    assert link_bodies(frames, 4)[..., 2].any(axis=(0, 2)).tolist() == [t == 5 for t in range(30)]
    for nobody in ([], [np.zeros((0, 3, 3))] * 2):
        with pytest.raises(ValueError, match=r"expected people, found none in any of (0|2) frames"):
            link_bodies(nobody, 1)


def test_openpose(tmp_path, shared):
    raws = {name: np.abs(some_raw(25, 2)) * 100 for name in ("a", "b")}
    foreign.write_openpose(tmp_path / "in" / "walk" / "a", "", raws["a"])
    foreign.write_openpose(
        tmp_path / "in" / "test" / "run", "b_", raws["b"], lambda t, people: people[:: -1 if t % 2 else 1]
    )
    dataset = FORMATS["openpose"].prepare(tmp_path / "out", tmp_path / "in", workers=1)
    assert dataset.layout == "openpose-25" and dataset.classes == ("run", "walk")
    assert (dataset["train"].names.tolist(), dataset["test"].names.tolist()) == (["a"], ["b"])
    listed = tmp_path / "labels.txt"
    listed.write_text("a 3 anna\nb 0 bo\n")
    dataset = FORMATS["openpose"].prepare(
        tmp_path / "out2", tmp_path / "in", labels=listed, persons=2, workers=1
    )
    assert dataset["train"].subjects.tolist() == ["anna", "bo"] and dataset.num_bodies == 2
    real = list(FORMATS["openpose"].read(shared / "faults" / "openpose_json"))
    assert real[0].shape == (3, 2, 17, 1) and real[0][0, 0, 0, 0] == 1019.5
    frame = next((tmp_path / "in" / "walk" / "a").iterdir())
    for content in (
        "[",
        "{}",
        '{"people": 3}',
        '{"people": [{}]}',
        '{"people": [{"pose_keypoints_2d": [1, 2]}]}',
    ):
        frame.write_text(content)
        with pytest.raises(InputError, match="expected"):
            list(FORMATS["openpose"].read(tmp_path / "in" / "walk" / "a"))


LAYOUT = """
name: chair
joints: [seat, back, left, right, top]
parents: [-1, 0, 0, 0, 1]
torso: [1, 2, 3]
shoulders: [3, 2]
"""


@pytest.mark.parametrize("form", ["joint a line", "frame a line", "csv with a head", "npy", "npz", "zip"])
def test_a_dataset_of_one_s_own(tmp_path, form):
    """From files in an order of one's own to a prepared folder by one command."""
    (tmp_path / "chair.yaml").write_text(LAYOUT)
    source = tmp_path / "мої кліпи"
    raws = {}
    for label in ("walk", "sit"):
        for number in range(3):
            raw = raws[f"{label}-{number}"] = some_raw(5, frames=9)
            points = raw[..., 0].transpose(1, 2, 0)
            (source / label).mkdir(parents=True, exist_ok=True)
            path = source / label / f"{label}-{number}"
            sure = np.ones((9, 5, 1), np.float32)
            if form == "joint a line":
                rows = np.concatenate([points, sure], 2).reshape(-1, 4)
                path.with_suffix(".txt").write_bytes(foreign.lines(rows, end="\r\n").encode())
            elif form == "frame a line":
                path.with_suffix(".txt").write_text(foreign.lines(points.reshape(9, -1)))
            elif form == "csv with a head":
                head = "\ufeff" + ",".join(f"{axis}{joint}" for joint in range(5) for axis in "xyz") + "\n"
                path.with_suffix(".csv").write_text(head + foreign.lines(points.reshape(9, -1), ","))
            else:
                np.save(path.with_suffix(".npy"), np.asfortranarray(points.astype(">f8")))
    if form == "npz":
        np.savez(tmp_path / "all.npz", **{path.stem: np.load(path) for path in source.rglob("*.npy")})
        source = tmp_path / "all.npz"
    if form == "zip":
        with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
            for path in source.rglob("*.npy"):
                archive.write(path, path.relative_to(source))
        source = tmp_path / "all.zip"
    listed = tmp_path / "list.csv"
    listed.write_text("\n".join(f"{name}.npy, {name[:-2]}, s{name[-1]}" for name in raws))
    words = ["--source", source, "--layout", tmp_path / "chair.yaml", "--out", tmp_path / "out"]
    words += ["--labels", listed] if form == "npz" else []
    assert main(["prepare", "auto", *map(str, words)]) == 0
    dataset = open_dataset(tmp_path / "out")
    assert dataset.classes == ("sit", "walk") and dataset.layout == "chair"
    for name, raw in raws.items():
        row = check(dataset["train"], name, raw.astype(np.float64), dataset.skeleton)
        assert dataset.classes[dataset["train"].labels[row]] == name[:-2]
    if form == "npz":
        assert sorted(set(dataset["train"].subjects)) == ["s0", "s1", "s2"]


def test_lists_of_labels(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "c.d"):
        np.save(source / f"{name}.npy", some_raw(20)[..., 0].transpose(1, 2, 0))
    prepare = FORMATS["arrays"].prepare
    with pytest.raises(InputError, match=r"expected labels of clips such as a, b, .*give --labels, a list"):
        prepare(tmp_path / "out", source, "kinect-v1")
    listed = source / "labels.csv"
    listed.write_bytes(
        "subject,name,label,split\r\nanna,a.npy,5,val\r\n,x\\b,7,train\r\n".encode("utf-8-sig")
    )
    dataset = prepare(tmp_path / "out", source, "kinect-v1", workers=1)
    assert dataset["test"].labels.tolist() == [5] and dataset["train"].labels.tolist() == [7]
    assert dataset["test"].subjects is None, "where not all are known"
    assert dataset.skipped == (("c.d", "expected a label, found none"),)
    for text, said in (
        ("a b c d\n", "line 1: expected name, label, subject, found 4 words"),
        ("name,label,split\na,1,sometimes\n", "line 2: expected train, val or test"),
        ("z 1\n", "expected labels of clips such as a"),
        ("a -1\n", "expected labels from 0"),
        ("a walk\nb 2\n", "all of them names"),
    ):
        listed.write_text(text)
        with pytest.raises(InputError, match=rf"labels\.csv[:,] .*{said}"):
            prepare(tmp_path / "out2", source, "kinect-v1")
    listed.write_text("a 0\nb 1\n")
    with pytest.raises(InputError, match=r"\.npy: expected frames of 25 joints of xy, xyz or xyzc"):
        prepare(tmp_path / "out3", source, "ntu-rgb+d")


def test_labels_are_in_names(tmp_path):
    source = tmp_path / "in"
    for name in ("A/sit_down_bo_1", "A/sit_down_anna_2", "B/wave_bo_1", "B/notes"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(source / f"{name}.npy", some_raw(20)[..., 0].transpose(1, 2, 0))

    def prepare(number, pattern, **rules):
        with preparing(Preparation(rules=Rules(**rules))):
            arrays = FORMATS["arrays"].prepare
            return arrays(tmp_path / f"{number}", source, "kinect-v1", Path(pattern), workers=1)

    by_name = prepare(1, "{label}_{subject}_{take}.npy", test="take=2")
    assert by_name.classes == ("sit_down", "wave"), "a name of several words is one"
    assert by_name["train"].subjects.tolist() == ["bo", "bo"] and by_name["test"].subjects.tolist() == [
        "anna"
    ]
    assert by_name.skipped == (("notes", "expected a label, found none"),)
    by_folder = prepare(2, "{label}/*", train="ratio=0.5")
    assert by_folder.classes == ("A", "B") and not by_folder.skipped
    assert prepare(3, "*_{label}_*").classes == ("anna", "bo")
    for pattern, said in (
        ("{label}_{label}", "expected each of {label}, {subject}, … once, found"),
        ("{label}x{subject}", "expected labels of clips such as B/notes"),
        ("{label}_{split}_*", "expected train, val or test, and counts of frames, found 'anna'"),
    ):
        with pytest.raises(InputError, match=re.escape(pattern) + ".*" + re.escape(said)):
            prepare(4, pattern)


def test_arrays_are_written_to_the_same_bits(tiny_dataset, tmp_path, capsys):
    dataset = open_dataset(tiny_dataset)
    assert main(["write", "arrays", "--data", str(tiny_dataset), "--out", str(tmp_path / "arrays")]) == 0
    *named, rest = capsys.readouterr().out.splitlines()
    files = sum(len(split) for split in dataset.splits.values()) + 1  # and labels.csv
    assert rest == f"and {files - len(named)} more in {tmp_path / 'arrays'}" and len(named) < 10
    assert all(Path(name).is_file() for name in named)
    for archive, inside in (("flat.zip", ""), ("deep.ZIP", "some folder/arrays/")):
        with zipfile.ZipFile(tmp_path / archive, "w") as packed:
            for path in sorted(path for path in (tmp_path / "arrays").rglob("*") if path.is_file()):
                packed.write(path, f"{inside}{path.relative_to(tmp_path / 'arrays')}")
    for number, source in enumerate(("arrays", "flat.zip", "deep.ZIP")):
        out = tmp_path / f"out{number}"
        words = ["--source", tmp_path / source, "--layout", dataset.layout, "--out", out]
        assert main(["prepare", "arrays", *map(str, words), "--workers", "1"]) == 0
        again = open_dataset(out)
        assert again.classes == dataset.classes and again.num_bodies == dataset.num_bodies
        assert not again.skipped, "the list is no clip"
        for name, split in dataset.splits.items():
            order = np.argsort(again[name].names)
            expected = np.argsort(split.names)
            for column in ("clips", "frames", "labels", "names", "subjects"):
                np.testing.assert_array_equal(
                    getattr(again[name], column)[order], getattr(split, column)[expected], err_msg=column
                )


def test_a_written_array_has_its_frame_count_where_it_is_read_alone(tiny_dataset, tmp_path):
    """As `predict` reads it: by the list in the folder above, whatever its name has for dots."""
    dataset = open_dataset(tiny_dataset)
    split, layout = dataset["test"], get_layout(dataset.layout)
    read, write = FORMATS["arrays"].read, FORMATS["arrays"].write
    files = [file for file in write(dataset, tmp_path) if file.parent.name == "test"]
    for index, file in enumerate(files):
        (clip,) = read(file, layout)
        np.testing.assert_array_equal(clip.coordinates, split.clips[index])
        assert clip.frames == split.frames[index]
    dotted = files[0].rename(files[0].with_name("take.one.npy"))
    labels = tmp_path / "labels.csv"
    labels.write_text(labels.read_text().replace(files[0].name, dotted.name))
    (clip,) = read(dotted, layout)
    assert clip.frames == split.frames[0]
    labels.write_text("name,label,split\n1,2,never\n")  # no list of clips
    (raw,) = read(dotted, layout)
    np.testing.assert_array_equal(raw, split.clips[0])


def test_a_list_with_frame_counts_of_raw_clips_is_told_of(tmp_path, capsys):
    """Counts are of clips that are prepared already, all of a length; somebody may count raw ones."""
    source = tmp_path / "in"
    source.mkdir()
    lengths = {"a": 9, "b": 12, "c": 7}
    for name, frames in lengths.items():
        np.save(source / f"{name}.npy", some_raw(20, frames=frames)[..., 0].transpose(1, 2, 0))
    rows = [f"{name},wave,{frames}" for name, frames in lengths.items()]
    (source / "labels.csv").write_text("\n".join(["name,label,frames", *rows]))
    words = ["--source", str(source), "--layout", "kinect-v1", "--workers", "1"]
    assert main(["prepare", "arrays", *words, "--out", str(tmp_path / "out")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "b: expected 9 frames of a clip that was prepared already" in said
    assert "found 12; leave `frames` out for raw clips" in said


def test_former_names_of_options_are_taken(tmp_path, capsys):
    raw = some_raw(20)[..., 0].transpose(1, 2, 0).tolist()
    for view in (1, 3):
        (tmp_path / f"a01_s01_e00_v0{view}.json").write_text(json.dumps({"skeletons": raw}))
    words = [
        "prepare",
        "nw-ucla",
        "--skeletons",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
        "--workers=1",
    ]
    assert main(words) == 0
    assert "--skeletons is called --source now, and goes in version 0.2" in capsys.readouterr().err
    assert (
        main(["prepare", "auto", f"--source={tmp_path}", "--out", str(tmp_path / "auto"), "--workers=1"]) == 0
    )
    assert "format: nw-ucla (2 files such as a01_s01_e00_v01.json)" in capsys.readouterr().out
    assert main(["prepare", "auto", "--source", str(tmp_path / "no"), "--out", "o"]) == 2
    assert "expected a file or a folder, found nothing there" in capsys.readouterr().err
