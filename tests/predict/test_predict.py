"""Raw clips of every kind get the answer of what they hold; one that cannot be read stops nothing."""

import io
import json
import pickle
import shutil
import tempfile
import zipfile

import numpy as np
import pytest
import torch

import ikem_fast
from ikem_fast.cli import main
from ikem_fast.data import FORMATS, convert, open_dataset, synthetic
from ikem_fast.data.preprocess import Skipped
from ikem_fast.errors import InputError
from ikem_fast.predict.sources import named_clips
from ikem_fast.predict.stream import Window, windows
from ikem_fast.skeleton import get_layout
from tests.data import foreign

JOINTS = 25


@pytest.fixture(scope="module")
def raws():
    """Simulated people, in two clips alone and in one in twos, of their own lengths."""
    plan = synthetic.plan_clips(3)
    clips = [synthetic.generate_clip(clip, 0) for clip in (plan[0], plan[7], plan[-1])]
    assert [bool(clip[..., 1].any()) for clip in clips] == [False, False, True]
    return clips


@pytest.fixture(scope="module")
def loaded(bundle):
    return ikem_fast.load(bundle)


def as_npz(path, clips):
    frames = np.concatenate([clip.transpose(1, 2, 0, 3) for clip in clips])
    lengths = np.array([clip.shape[1] for clip in clips])
    np.savez(path, x=frames, len=lengths, y=np.zeros(len(clips), np.int64))
    return path


def test_arrays_batches_and_files_are_answered_alike(loaded, raws, tmp_path):
    wanted = loaded.predict(raws)
    assert wanted.probabilities.shape == (3, 12) and wanted.features.shape == (3, 3, 16)
    np.testing.assert_allclose(wanted.probabilities.sum(1), 1, atol=1e-5)
    assert wanted.labels == tuple(loaded.classes[i] for i in wanted.probabilities.argmax(1))
    file = as_npz(tmp_path / "clips.npz", raws)
    for source in (file, str(file), [file], tmp_path):
        found = loaded.predict(source)
        assert (found.probabilities == wanted.probabilities).all()
        assert found.names == tuple(f"{file}#{number}" for number in range(3))
    one = loaded.predict(raws[0])
    np.testing.assert_allclose(one.probabilities, wanted.probabilities[:1], atol=1e-5)
    batch = loaded.predict(np.stack([raws[0][:, :20], raws[1][:, :20]]))
    assert batch.names == ("clip 0", "clip 1")


def test_another_set_answers_where_it_is_named(loaded, raws):
    assert loaded.predict(raws, of="bone").features.shape == (3, 1, 16)
    with pytest.raises(InputError, match="set: expected one of joint, motion, bone, "):
        loaded.predict(raws, of="joint+bone")


def test_frames_without_a_body_change_nothing(loaded, raws):
    empty = np.zeros((3, 9, JOINTS, 2), np.float32)
    late = np.concatenate([empty, raws[0], empty], 1)
    assert (loaded.predict(late).probabilities == loaded.predict(raws[0]).probabilities).all()


@pytest.mark.parametrize("frames", [1, 2, 3000])
def test_very_short_and_very_long_clips_are_answered(loaded, raws, frames):
    clip = np.resize(raws[0].transpose(1, 0, 2, 3), (frames, 3, JOINTS, 2)).transpose(1, 0, 2, 3)
    assert np.isfinite(loaded.predict(clip).probabilities).all()


def test_bodies_that_the_model_does_not_know_are_left_out_and_missing_ones_are_nobody(loaded, raws):
    wanted = loaded.predict(raws[0]).probabilities
    assert (loaded.predict(raws[0][..., :1]).probabilities == wanted).all()
    crowd = np.concatenate([raws[0], 1 + raws[0][..., :1]], 3)
    assert (loaded.predict(crowd).probabilities == wanted).all()


def test_clips_of_another_layout_are_brought_into_the_models(loaded):
    clip = np.random.default_rng(0).normal(size=(3, 30, 20, 1))
    assert np.isfinite(loaded.predict(clip, layout="kinect-v1").probabilities).all()
    with pytest.raises(InputError, match=r"clip 0: expected shape \(3, F, 25, M\) for layout ntu-rgb\+d"):
        loaded.predict(clip)
    with pytest.raises(InputError, match="layout: expected one of"):
        loaded.predict(clip, layout="nobody's")


def test_a_file_is_of_its_formats_layout(loaded, tmp_path):
    """NW-UCLA's joints are Kinect v1's, whatever the model's are; nobody has to say so."""
    clip = np.random.default_rng(0).normal(size=(3, 30, 20, 1)).astype(np.float32)
    file = tmp_path / "a01_s01_e00_v01.json"
    file.write_text(json.dumps({"skeletons": clip[..., 0].transpose(1, 2, 0).tolist()}))
    found = loaded.predict(file).probabilities
    np.testing.assert_allclose(found, loaded.predict(clip, layout="kinect-v1").probabilities, atol=1e-5)


def test_tables_of_numbers_have_the_models_joints(loaded, raws, tmp_path):
    """A file of lines "x y z confidence" does not say what a frame is: as many joints as the model has."""
    clip = raws[0][:, :7]  # 175 lines, which are no frames of 20 joints
    points = clip[..., 0].transpose(1, 2, 0)
    rows = np.concatenate([points, np.ones_like(points[..., :1])], 2).reshape(-1, 4)
    (tmp_path / "wave one.txt").write_text(foreign.lines(rows))
    found = loaded.predict(tmp_path)
    np.testing.assert_allclose(found.probabilities, loaded.predict(clip).probabilities, atol=1e-5)
    with pytest.raises(InputError, match=r"wave one\.txt: .*expected frames of 20 joints"):
        loaded.predict(tmp_path / "wave one.txt", layout="kinect-v1")


def test_an_archive_is_answered_as_what_is_in_it(loaded, raws, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    clip = np.random.default_rng(0).normal(size=(3, 30, 20, 1)).astype(np.float32)
    text = json.dumps({"skeletons": clip[..., 0].transpose(1, 2, 0).tolist()})
    with zipfile.ZipFile(tmp_path / "clips.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("read me.txt", "no clip")
        archive.writestr("../../a01_s01_e00_v01.json", text)
        archive.writestr("deep/S001C001P001R001A001.skeleton", "none")
        archive.write(as_npz(tmp_path / "packed.npz", raws), "deep/packed.npz")
    found = list(named_clips(tmp_path / "clips.zip"))
    assert [name.removeprefix(f"{tmp_path}/") for name, _ in found] == [
        "clips.zip/../../a01_s01_e00_v01.json",
        "clips.zip/deep/S001C001P001R001A001.skeleton",
        *(f"clips.zip/deep/packed.npz#{number}" for number in range(3)),
    ]
    np.testing.assert_array_equal(found[0][1].coordinates, clip)
    assert isinstance(found[1][1], Skipped) and found[0][1].layout == "kinect-v1"
    assert not list((tmp_path / "temporary").iterdir()), "and nothing is left of it"
    (tmp_path / "empty.zip").write_bytes(b"PK\5\6" + bytes(18))
    ((_, found),) = named_clips(tmp_path / "empty.zip")
    assert found == Skipped("expected clips of a known format there, found none in 0 files")


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """The folder that `write arrays` left of the clips of the run, and the test clips' own."""
    folder = tmp_path_factory.mktemp("written")
    dataset = open_dataset(run.parent / "data")
    for name in ("arrays", "crossclr", "pyskl"):
        (folder / name).mkdir()
        FORMATS[name].write(dataset, folder / name)
    return folder / "arrays", dataset["test"]


@pytest.fixture(scope="module")
def of_prepared(loaded, written):
    """Probabilities of the test clips as they are prepared."""
    split = written[1]
    with torch.no_grad():
        clips, frames = torch.from_numpy(np.array(split.clips)), torch.from_numpy(np.array(split.frames))
        wanted = loaded.recognizer(clips, frames, loaded.chosen())[0].numpy()
    assert len(set(frames.tolist())) > 1 and set(frames.tolist()) != {clips.shape[2]}
    return wanted


def test_written_arrays_are_answered_as_the_clips_that_they_are(loaded, written, of_prepared, tmp_path):
    """They are prepared already, and the list beside them has their frame counts: in an archive, too."""
    folder, split = written
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", folder.parent, "arrays")
    files = [folder / "test" / f"{name}.npy" for name in split.names]
    for source in (files, folder / "test", folder, archive):
        found = {answer.name.rpartition("/")[2]: answer for answer in loaded.predict_each(source)}
        for file, row in zip(files, of_prepared, strict=True):
            np.testing.assert_allclose(found[file.name].probabilities, row, atol=1e-5)
    assert len(found) == len(list(folder.rglob("*.npy"))), "and the list is no clip"


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["crossclr", "pyskl"])
def test_what_else_was_written_is_answered_as_the_clips_that_it_is(
    name, packed, loaded, written, of_prepared, tmp_path
):
    """With the frame counts that are in it, and each clip once."""
    folder = written[0].with_name(name)
    source = shutil.make_archive(str(tmp_path / "packed"), "zip", folder) if packed else folder
    found = [answer.probabilities for answer in loaded.predict_each(source)]
    assert len(found) == len(list(written[0].rglob("*.npy"))), "training clips, too, each once"
    np.testing.assert_allclose(np.array(found[-len(of_prepared) :]), of_prepared, atol=1e-5)
    if name == "crossclr" and not packed:
        found = [answer.probabilities for answer in loaded.predict_each(folder / "val_position.npy")]
        np.testing.assert_allclose(np.array(found), of_prepared, atol=1e-5)


def test_arrays_that_say_no_frame_counts_are_taken_as_raw_clips_which_is_said(
    loaded, written, tmp_path, capsys
):
    clips = np.load(written[0].with_name("crossclr") / "val_position.npy")
    np.save(tmp_path / "val_position.npy", clips)
    (tmp_path / "val_label.pkl").write_bytes(
        pickle.dumps((list(map(str, range(len(clips)))), [0] * len(clips)))
    )
    found = np.array([answer.probabilities for answer in loaded.predict_each(tmp_path)])
    np.testing.assert_allclose(found, loaded.predict(clips).probabilities, atol=1e-5)
    assert "of how many frames is not said, so they are taken as raw ones" in capsys.readouterr().err


def test_a_written_array_of_another_layout_or_length_is_brought_over_or_named(loaded, written):
    folder, _ = written
    clip = next(clip for _, clip in named_clips(folder / "test", layout=get_layout("ntu-rgb+d")))
    other = clip._replace(coordinates=convert(clip.coordinates, "ntu-rgb+d", "kinect-v1"))
    (answer,) = loaded.answer([("other", other)], layout="kinect-v1")
    assert answer.reason is None and np.isfinite(answer.probabilities).all()
    longer = clip._replace(coordinates=np.repeat(clip.coordinates, 2, 1))
    (answer,) = loaded.answer([("longer", longer)])
    assert answer.reason.startswith("expected 8 frames of a clip that was prepared already")


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_frames_is_a_clip_with_all_its_people(tmp_path, packed):
    raw = np.abs(np.random.default_rng(0).normal(size=(3, 6, 18, 2))).astype(np.float32)
    raw[0, ..., 1] += 20  # somebody else, elsewhere
    foreign.write_openpose(tmp_path / "poses" / "walk", "one_", raw)
    source = tmp_path / "poses"
    if packed:
        source = tmp_path / "poses.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in (tmp_path / "poses").rglob("*.json"):
                archive.write(file, file.relative_to(tmp_path))
    ((name, found),) = named_clips(source)
    assert "walk" in name and found.coordinates.shape == raw.shape
    np.testing.assert_allclose(found.coordinates, raw, rtol=1e-6)


def test_every_format_with_files_is_read_by_its_name():
    for name, format in FORMATS.items():
        if format.read is None:
            with pytest.raises(InputError, match="format: expected one of"):
                list(named_clips("x", name))
        else:
            ((_, found),) = named_clips("nowhere", name)
            assert found == Skipped("expected a file or a folder, found nothing there")


def test_a_clip_that_cannot_be_read_is_named_and_the_rest_go_on(run, raws, tmp_path, capsys):
    as_npz(tmp_path / "a.npz", raws[:1])
    (tmp_path / "S001C001P001R001A001.skeleton").write_text("no skeleton\x1b[31m")
    np.savez(tmp_path / "c.npz", x=np.full((9, JOINTS, 3, 2), np.nan), len=[9], y=[0])
    (tmp_path / "read me.txt").write_text("not a clip")
    names = [str(tmp_path / name) for name in ("a.npz", "S001C001P001R001A001.skeleton", "c.npz", "gone")]
    status = main(["predict", *names, "--model", str(run), "--json", "--top", "2"])
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 1 and [line["clip"] for line in lines] == names
    first = lines[0]
    assert next(iter(first["probabilities"])) == first["label"] and len(first["probabilities"]) == 2
    assert first["probability"] == max(first["probabilities"].values())
    assert [line["label"] for line in lines[1:]] == [None] * 3
    for name, reason in zip(names[1:], ("line 1", "NaN", "nothing there"), strict=True):
        assert any(name in line and reason in line for line in err.splitlines()), err
    assert "\x1b" not in out + err


def test_a_folder_is_a_table(run, raws, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    as_npz(tmp_path / "clips.npz", raws)
    assert main(["predict", str(tmp_path), "--model", str(run)]) == 0
    out, err = capsys.readouterr()
    assert out.count("clips.npz#") == 3 and "probability" in out and "test clips" in err


def test_a_table_names_the_folder_once_and_keeps_names_whole(run, raws, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"S001C001P00{i}R001A001_of_one_day.npz" for i in range(3)]
    for name, raw in zip(names, raws, strict=True):
        as_npz(tmp_path / name, [raw])
    assert main(["predict", str(tmp_path), "--model", str(run)]) == 0
    out, _ = capsys.readouterr()
    assert out.count(str(tmp_path)) == 1 and all(f"\n{name} " in out for name in names), out


def test_wrong_usage_is_one_message(run, tmp_path, capsys):
    (tmp_path / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes())
    for words, message in (
        (["x", "--model", str(tmp_path)], "make one: ikem-fast evaluate linear"),
        (["x", "--model", str(tmp_path / "no")], "expected a bundle, a run's folder or a checkpoint"),
        (["x", "--model", str(run), "--set", "all"], "set: expected one of"),
        (["x", "--model", str(run), "--format", "avi"], "format: expected one of"),
        (["x", "--model", str(run), "--top", "0"], "top: expected a number ≥ 1"),
        (["-", "x", "--model", str(run)], "expected - alone"),
    ):
        assert main(["predict", *words]) == 2
        assert message in capsys.readouterr().err


def lines_of(clip):
    """A raw clip as a stream: frames of bodies that are there."""
    for frame in clip.transpose(1, 3, 2, 0):
        yield json.dumps([body.tolist() for body in frame if body.any()])


def test_a_stream_is_answered_window_by_window(run, loaded, raws, monkeypatch, capsys):
    clip = raws[2][:, :50]
    text = "".join(f"{line}\n" for line in lines_of(clip))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    status = main(["predict", "-", "--model", str(run), "--window", "20", "--stride", "12"])
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == 0
    assert [(line["first"], line["last"]) for line in out] == [(0, 19), (12, 31), (24, 43), (30, 49)]
    for line in out:
        wanted = loaded.predict(clip[:, line["first"] : line["last"] + 1])
        assert line["label"] == wanted.labels[0]
        assert line["probability"] == pytest.approx(float(wanted.probabilities.max()), abs=1e-5)


def test_a_stream_says_where_nobody_is_and_what_is_no_frame(run, monkeypatch, capsys):
    text = "[]\n" * 4 + "[[1, 2]]\n" + "{\n" + "[]\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    status = main(["predict", "-", "--model", str(run), "--window", "4", "--stride", "9"])
    out, err = capsys.readouterr()
    assert status == 1 and "line 5: expected 25 joints" in err and "line 6: expected" in err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [(line["first"], line["last"], line["label"]) for line in lines] == [(0, 3, None), (3, 6, None)]
    assert "expected a body" in lines[0]["reason"]


def test_windows_hold_the_bodies_of_their_frames():
    one, two = [[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]
    lines = [json.dumps(frame) for frame in (one, [one, two], [], [two, one, one])]
    (found,) = windows(lines, joints=1, bodies=2, length=9, stride=1)
    assert isinstance(found, Window) and (found.first, found.last) == (0, 3)
    assert found.clip[:, :, 0].tolist() == [
        [[1, 0], [1, 4], [0, 0], [4, 1]], [[2, 0], [2, 5], [0, 0], [5, 2]], [[3, 0], [3, 6], [0, 0], [6, 3]]
    ]  # fmt: skip
