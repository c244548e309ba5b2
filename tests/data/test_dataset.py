"""The prepared-dataset folder: what is written comes back, an interrupted run goes on, damage is named."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast.data import DatasetWriter, drop_copies, hold_out, open_dataset
from ikem_fast.data import writer as module
from ikem_fast.errors import InputError
from tests.helpers import contents


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(module.os, "fsync", lambda _: None)


NAMES = [f"clip-{index:02d}" for index in range(23)]


def make_clip(index):
    """What the index-th source gives: (split, clip, frames, label), or None where it is skipped."""
    if index % 7 == 3:
        return None
    clip = np.random.default_rng(index).normal(size=(3, 4, 15, 2)).astype(np.float32)
    return "test" if index % 3 == 0 else "train", clip, 10 + index, index % 5


def make_writer(folder, *, name="tiny", sources=NAMES, **changes):
    settings = {"layout": "sbu", "classes": list("abcde"), "num_frames": 4, "num_bodies": 2,
                "prepared": {"from": "a test"}, "name_length": 7}  # fmt: skip
    return DatasetWriter(folder, name=name, sources=sources, **(settings | changes))


def write(folder, stop=None, **changes):
    with make_writer(folder, **changes) as writer:
        for index in range(writer.done, len(NAMES)):
            if index == stop:
                raise KeyboardInterrupt
            source = make_clip(index)
            if source is None:
                writer.skip(NAMES[index], "no body")
            else:
                writer.add(*source, NAMES[index])
        return writer.finish()


def test_round_trip(tmp_path):
    dataset = write(tmp_path / "tiny")
    assert (dataset.name, dataset.layout, dataset.classes) == ("tiny", "sbu", tuple("abcde"))
    assert (dataset.num_frames, dataset.num_bodies, dataset.num_joints) == (4, 2, 15)
    assert dataset.skipped == tuple((NAMES[index], "no body") for index in (3, 10, 17))
    assert sorted(dataset.splits) == ["test", "train"]
    for split in ("train", "test"):
        expected = [(index, make_clip(index)) for index in range(len(NAMES)) if make_clip(index)]
        expected = [
            (index, clip, frames, label) for index, (part, clip, frames, label) in expected if part == split
        ]
        part = dataset[split]
        assert len(part) == len(expected)
        assert isinstance(part.clips, np.memmap) and not part.clips.flags.writeable
        for row, (index, clip, frames, label) in enumerate(expected):
            np.testing.assert_array_equal(part.clips[row], clip)
            assert (part.frames[row], part.labels[row], part.names[row]) == (frames, label, NAMES[index])
    assert (part.clips.dtype, part.frames.dtype, part.labels.dtype) == (np.float32, np.int32, np.int64)
    assert not (tmp_path / "tiny.partial").exists()
    with pytest.raises(InputError, match="expected a split among"):
        dataset["validation"]


def test_arrays_are_plain_npy(tmp_path):
    write(tmp_path / "tiny")
    for path in (tmp_path / "tiny").glob("*.npy"):
        assert np.load(path, allow_pickle=False).flags.c_contiguous


def with_subjects(folder, subjects, clips=9):
    """A dataset of clips of these subjects in turn, by its writer."""
    length = max(map(len, subjects))
    with make_writer(folder, sources=NAMES[:clips], subject_length=length) as writer:
        for index in range(clips):
            clip = np.full((3, 4, 15, 2), index, np.float32)
            writer.add("train", clip, 5, index % 5, NAMES[index], subjects[index % len(subjects)])
        return writer.finish()


def test_subjects_come_back(tmp_path):
    assert with_subjects(tmp_path / "a", ["x", "two"])["train"].subjects.tolist()[:3] == ["x", "two", "x"]
    assert write(tmp_path / "b")["train"].subjects is None, "what was prepared without them has none"
    np.save(tmp_path / "b" / "test_subjects.npy", np.arange(len(open_dataset(tmp_path / "b")["test"])))
    assert open_dataset(tmp_path / "b")["test"].subjects.tolist()[:3] == ["0", "1", "2"]
    np.save(tmp_path / "b" / "test_subjects.npy", np.zeros(2))
    with pytest.raises(InputError, match=r"test_subjects.npy: expected unicode of shape \(\d+,\), found"):
        open_dataset(tmp_path / "b")


def test_a_writer_takes_subjects_of_all_clips_or_of_none(tmp_path):
    with make_writer(tmp_path / "a", sources=["only"], subject_length=2) as writer:
        for subject, message in ((None, "expected names, subjects, found names"), ("long", "at most 2 char")):
            with pytest.raises(ValueError, match=message):
                writer.add("train", *make_clip(1)[1:], "only", subject)
    with (
        make_writer(tmp_path / "b", sources=["only"]) as writer,
        pytest.raises(ValueError, match="found names, s"),
    ):
        writer.add("train", *make_clip(1)[1:], "only", "x")


def test_held_out_subjects_are_the_test_clips_of_the_rest(tmp_path):
    dataset = with_subjects(tmp_path / "a", ["x", "y", "z"])
    held = hold_out(dataset, ["y"])
    assert held["test"].names.tolist() == [NAMES[1], NAMES[4], NAMES[7]] and len(held["train"]) == 6
    assert set(held["train"].subjects) == {"x", "z"} and held["test"].clips[1].max() == 4
    with pytest.raises(InputError, match=r"expected training subjects \(x, y, z\), found w"):
        hold_out(dataset, ["x", "w"])
    with pytest.raises(InputError, match="expected subjects of the training clips, found none"):
        hold_out(write(tmp_path / "b"), ["x"])


def test_copies_of_training_clips_are_dropped_from_the_test(tmp_path):
    _, *clip = make_clip(1)
    other = [np.nextafter(clip[0], np.inf, dtype=clip[0].dtype), *clip[1:]]
    with make_writer(tmp_path / "a", sources=["a", "b", "c", "d"]) as writer:
        for split, name, one in (
            ("train", "a", clip),
            ("test", "b", clip),
            ("test", "c", other),
            ("test", "d", clip),
        ):
            writer.add(split, *one, name)
        dataset = writer.finish()
    left = drop_copies(dataset)
    assert left["test"].names.tolist() == ["c"] and left["train"].names.tolist() == ["a"]
    assert len(dataset["test"]) == 3


def test_empty_split(tmp_path):
    with make_writer(tmp_path / "tiny", sources=["only"]) as writer:
        writer.add("train", *make_clip(1)[1:], "only")
        dataset = writer.finish()
    assert (len(dataset["train"]), len(dataset["test"])) == (1, 0)


@pytest.mark.parametrize("checkpoint", [1, 4, 512])
@pytest.mark.parametrize("stop", [0, 1, 11, 22])
def test_interrupted_run_goes_on_to_the_same_outcome(tmp_path, monkeypatch, checkpoint, stop):
    monkeypatch.setattr(module, "CHECKPOINT_EVERY", checkpoint)
    write(tmp_path / "whole" / "tiny")
    folder = tmp_path / "parts" / "tiny"
    with pytest.raises(KeyboardInterrupt):
        write(folder, stop=stop)
    assert not folder.exists()
    with make_writer(folder) as writer:
        assert writer.done == stop
    write(folder)
    assert contents(folder) == contents(tmp_path / "whole" / "tiny")


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_killed_run_goes_on_to_the_same_outcome(tmp_path_factory, data):
    """A run that died between any two writes, with any part of what followed the last state on disk."""
    root = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHECKPOINT_EVERY", data.draw(st.integers(1, 8)))
        write(root / "whole")
        writer = make_writer(root / "tiny")
        for index in range(data.draw(st.integers(0, len(NAMES)))):
            source = make_clip(index)
            writer.skip(NAMES[index], "no body") if source is None else writer.add(*source, NAMES[index])
        for arrays in writer._arrays.values():
            for array in arrays.values():
                if data.draw(st.booleans()):
                    array.file.flush()
        shutil.copytree(root / "tiny.partial", root / "copy.partial")  # what a kill would have left
        writer.close()
        write(root / "copy")
        assert contents(root / "copy") == contents(root / "whole")
    shutil.rmtree(root)


def test_killed_at_the_last_step(tmp_path, monkeypatch):
    monkeypatch.setattr(module.Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "tiny")
    monkeypatch.undo()
    write(tmp_path / "tiny")
    write(tmp_path / "whole")
    assert contents(tmp_path / "tiny") == contents(tmp_path / "whole")


def test_complete_dataset_is_left_alone(tmp_path):
    write(tmp_path / "tiny")
    before = contents(tmp_path / "tiny")
    (tmp_path / "tiny" / "progress.json").write_text("{}")  # as if killed after the rename
    with make_writer(tmp_path / "tiny") as writer:
        assert writer.complete and writer.done == len(NAMES)
        assert len(writer.finish()["train"]) == 13
    assert contents(tmp_path / "tiny") == before


@pytest.mark.parametrize(
    "changes", [{"name": "other"}, {"prepared": {"from": "elsewhere"}}, {"sources": NAMES[1:]}]
)
def test_other_settings_are_refused(tmp_path, changes):
    write(tmp_path / "tiny")
    before = contents(tmp_path / "tiny")
    with pytest.raises(InputError, match="found a dataset prepared from other files or with other settings"):
        make_writer(tmp_path / "tiny", **changes)
    assert contents(tmp_path / "tiny") == before
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "half", stop=5)
    with pytest.raises(InputError, match=r"half\.partial: .* found another one"):
        make_writer(tmp_path / "half", **changes)
    write(tmp_path / "half")  # what was there is unharmed


def test_foreign_folders_are_refused(tmp_path):
    for name in ("photos", "tiny.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cat.jpg").write_text("meow")
    with pytest.raises(InputError, match="photos: expected a new folder"):
        make_writer(tmp_path / "photos")
    with pytest.raises(InputError, match=r"tiny\.partial: expected nothing"):
        make_writer(tmp_path / "tiny")
    assert (tmp_path / "photos" / "cat.jpg").exists() and (tmp_path / "tiny.partial" / "cat.jpg").exists()


def test_empty_folder_is_used(tmp_path):
    (tmp_path / "tiny").mkdir()
    assert len(write(tmp_path / "tiny")["test"]) == 7


def test_two_runs_at_once_are_refused(tmp_path):
    with (
        make_writer(tmp_path / "tiny"),
        pytest.raises(InputError, match="another run is preparing this folder"),
    ):
        make_writer(tmp_path / "tiny")


HOSTILE = {
    "split elsewhere": {"splits": {"../victim": 3, "train": 2}},
    "other splits": {"splits": {"train": 5}},
    "negative rows": {"splits": {"train": -1, "test": 6}},
    "rows that are none": {"splits": {"train": "5", "test": 0}},
    "no splits": {"splits": None},
    "more done": {"done": 105},
    "less done": {"done": 4},
    "done before the start": {"done": -95},
    "done is no number": {"done": "5"},
    "skipped is no list": {"skipped": 1},
    "skipped are no pairs": {"skipped": [["a"]]},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_state_that_no_run_left_is_refused(tmp_path, kind):
    """Nothing outside the folder is touched: a split's name is part of a file's name."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "tiny", stop=5)
    for name in ("victim_clips.npy", "victim_labels.npy"):
        (tmp_path / name).write_bytes(b"precious" * 100)
    progress = tmp_path / "tiny.partial" / "progress.json"
    state = json.loads(progress.read_text())
    progress.write_text(json.dumps(state | HOSTILE[kind]))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"progress\.json: expected the state of an interrupted preparation"):
        make_writer(tmp_path / "tiny")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_links_in_a_partial_folder_are_not_followed(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "tiny", stop=5)
    (tmp_path / "victim").write_bytes(b"precious" * 1000)
    (tmp_path / "tiny.partial" / "train_clips.npy").unlink()
    (tmp_path / "tiny.partial" / "train_clips.npy").symlink_to(tmp_path / "victim")
    with pytest.raises(InputError, match=r"train_clips\.npy: .* found a link"):
        make_writer(tmp_path / "tiny")
    assert (tmp_path / "victim").read_bytes() == b"precious" * 1000


def test_killed_at_the_first_step(tmp_path):
    """While the first state was being written."""
    (tmp_path / "tiny.partial").mkdir()
    (tmp_path / "tiny.partial" / "progress.json.partial").write_text("{")
    write(tmp_path / "tiny")
    write(tmp_path / "whole")
    assert contents(tmp_path / "tiny") == contents(tmp_path / "whole")


def test_discarded(tmp_path):
    with make_writer(tmp_path / "tiny") as writer:
        writer.skip(NAMES[0], "no body")
        writer.discard()
    assert not any(tmp_path.iterdir())


def test_damaged_partial_folder_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "tiny", stop=20)
    path = tmp_path / "tiny.partial" / "train_clips.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"train_clips\.npy: expected .* found it cut short"):
        make_writer(tmp_path / "tiny")


def test_wrong_shape_is_refused(tmp_path):
    with make_writer(tmp_path / "tiny") as writer, pytest.raises(ValueError, match="expected shape"):
        writer.add("train", np.zeros((3, 5, 15, 2)), 5, 0, "a")


def test_long_name_is_refused(tmp_path):
    with make_writer(tmp_path / "tiny") as writer, pytest.raises(ValueError, match="at most 7 characters"):
        writer.add("train", *make_clip(1)[1:], "clip-001")


def test_unfinished(tmp_path):
    with make_writer(tmp_path / "tiny") as writer, pytest.raises(RuntimeError, match="0 of 23 sources"):
        writer.finish()


def damage_description(**changes):
    def damage(folder):
        path = folder / "dataset.json"
        description = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in description.items() if v != "(gone)"}))

    return damage


def cut(name, keep):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(keep * len(content))])

    return damage


def replace(name, array):
    return lambda folder: np.save(folder / name, array, allow_pickle=True)


DAMAGES = {
    "no folder": (shutil.rmtree, "found no dataset.json"),
    "no description": (lambda folder: (folder / "dataset.json").unlink(), "found no dataset.json"),
    "not JSON": (lambda folder: (folder / "dataset.json").write_text("{"), "expected a JSON file"),
    "not UTF-8": (lambda folder: (folder / "dataset.json").write_bytes(b"\xff\xfe"), "expected a JSON file"),
    "not an object": (lambda folder: (folder / "dataset.json").write_text("[]"), "expected a JSON object"),
    "other format": (damage_description(format="x"), "expected format"),
    "newer version": (damage_description(version=2), "expected version 1, found 2"),
    "no layout": (damage_description(layout="(gone)"), "expected 'layout'"),
    "unknown layout": (damage_description(layout="octopus", skeleton=None), "layout: expected one of"),
    "another layout": (damage_description(layout="coco"), "expected tables of layout 'coco', found .* 'sbu'"),
    "tables of no layout": (damage_description(skeleton=[1]), "skeleton: expected a joint layout"),
    "a parent that is no joint": (
        damage_description(skeleton={"name": "sbu", "joints": ["hip", "head"], "parents": [-1, 5]}),
        r"dataset\.json: skeleton: parents of joint 1 \(head\): .* found 5",
    ),
    "no classes": (damage_description(classes=[]), "expected 'classes'"),
    "too few classes": (damage_description(classes=["a"]), r"labels\.npy: expected labels 0 … 0"),
    "negative size": (damage_description(frames=-1), "expected 'frames'"),
    "other size": (damage_description(frames=5), r"clips\.npy: expected float32 of shape"),
    "too many classes": (damage_description(classes=["a"] * 5000), "a list of 1 to 4096"),
    "escapes in a class": (damage_description(classes=["\x1b[2J"] * 5), r"class names, found \['\\x1b"),
    "escapes in the name": (damage_description(name="\x1b[2J"), r"a printable string, found '\\x1b"),
    "deep": (lambda folder: (folder / "dataset.json").write_text("[" * 100_000), "expected a JSON file"),
    "true size": (damage_description(bodies=True), "expected 'bodies'"),
    "split elsewhere": (damage_description(splits={"../train": 1}), "expected 'splits'"),
    "other count": (damage_description(splits={"train": 12}), r"train_frames\.npy: expected int32"),
    "huge count": (damage_description(splits={"train": 10**30}), r"train_frames\.npy: expected int32"),
    "skipped not pairs": (damage_description(skipped=[["a"]]), "expected 'skipped'"),
    "missing array": (lambda folder: (folder / "test_clips.npy").unlink(), r"test_clips\.npy: .*no such"),
    "empty array": (cut("train_clips.npy", 0), r"train_clips\.npy: expected a whole \.npy file"),
    "cut in the header": (cut("train_labels.npy", 0.2), r"train_labels\.npy: expected a whole \.npy file"),
    "cut in the rows": (cut("train_clips.npy", 0.9), r"train_clips\.npy: expected a whole \.npy file"),
    "pickled": (replace("train_names.npy", np.array([print] * 13)), r"train_names\.npy: expected unicode"),
    "other dtype": (replace("train_frames.npy", np.ones(13)), r"train_frames\.npy: expected int32"),
    "no frames": (replace("train_frames.npy", np.zeros(13, np.int32)), "expected frame counts ≥ 1"),
    "names not text": (replace("test_names.npy", np.zeros(7)), r"test_names\.npy: expected unicode"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named(tmp_path, damage):
    write(tmp_path / "tiny")
    harm, message = DAMAGES[damage]
    harm(tmp_path / "tiny")
    with pytest.raises(InputError, match=message) as error:
        open_dataset(tmp_path / "tiny")
    assert str(tmp_path / "tiny") in str(error.value)


def test_an_archive_is_not_an_array(tmp_path):
    write(tmp_path / "tiny")
    np.savez(tmp_path / "many.npz", a=np.zeros(3))
    (tmp_path / "many.npz").replace(tmp_path / "tiny" / "train_labels.npy")
    with pytest.raises(InputError, match="found: no NumPy array"):
        open_dataset(tmp_path / "tiny")
