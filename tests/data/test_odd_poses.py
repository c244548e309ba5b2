"""Poses as other programs really write them: what is there is read, and taken for what it is."""

import json

import numpy as np
import pytest

from ikem_fast.data import FORMATS
from ikem_fast.data.formats import find_format, openpose
from ikem_fast.data.preparation import Preparation, Preprocessing, preparing
from ikem_fast.errors import InputError
from tests.data import foreign
from tests.data.test_own import some_raw


def prepared(name, out, source, **options):
    """A dataset of clips that stay as they are."""
    as_they_are = Preprocessing(center="none", align="none", sampling="none", frames=12)
    with preparing(Preparation(as_they_are)):
        return FORMATS[name].prepare(out, source, workers=1, **options)


def write_frames(folder, frames):
    """As OpenPose 1.3 writes them: every person with lists that are empty for what was not asked for."""
    folder.mkdir(parents=True)
    for number, people in enumerate(frames):
        whole = [{"person_id": [-1], "pose_keypoints_3d": [], "face_keypoints_2d": [], **p} for p in people]
        (folder / f"c_{number:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": whole}))


def flat(raw, key="pose_keypoints_2d"):
    """Of each frame the first body, as OpenPose has it."""
    return [{key: pose.reshape(-1).tolist()} for pose in raw[..., 0].transpose(1, 2, 0)]


@pytest.mark.parametrize("key", ["pose_keypoints_2d", "pose_keypoints"])
def test_openpose_as_it_writes(tmp_path, key):
    """Flat poses stay in their plane, whatever empty lists lie beside them, and hands alone are nobody."""
    raw = np.abs(some_raw(18))
    write_frames(tmp_path / "in" / "walk", [[{key: []}, one] for one in flat(raw, key)])
    dataset = prepared("openpose", tmp_path / "out", tmp_path / "in")
    assert dataset.preprocessing.planar
    np.testing.assert_array_equal(dataset["train"].clips[0], raw)


@pytest.mark.parametrize("form", ["openpose", "mediapipe"])
def test_frames_that_are_missing_by_their_numbers_are_told_of(tmp_path, capsys, form):
    """Once, with how many; every tenth frame is none, nor is a number of any size trouble."""
    raw = np.abs(some_raw(18 if form == "openpose" else 33))
    marks = [
        [dict(zip("xyz", p, strict=True)) for p in frame] for frame in raw[..., 0].transpose(1, 2, 0).tolist()
    ]
    contents = (
        [{"people": [one]} for one in flat(raw)]
        if form == "openpose"
        else [{"landmarks": [m]} for m in marks]
    )
    end = "_keypoints" if form == "openpose" else ""
    numbers = {
        "gap": [*range(3), *range(5, 14)],
        "tenth": range(0, 120, 10),
        "late": [*range(7), *range(8, 13)],
    }
    for name, used in numbers.items():
        folder = tmp_path / "in" / "walk" / name
        folder.mkdir(parents=True)
        for number, content in zip(used, contents, strict=True):
            (folder / f"{name}_{number:012d}{end}.json").write_text(json.dumps(content))
    dataset = prepared(form, tmp_path / "out", tmp_path / "in")
    told = capsys.readouterr().err
    assert "note: " in told and "3 frames are missing by their numbers, in 2 of 3 clips (gap, late)" in told
    assert dataset["train"].frames.tolist() == [12, 12, 12]
    (folder / f"late_{'9' * 100}{end}.json").write_text(json.dumps(contents[0]))
    assert len(prepared(form, tmp_path / "out2", tmp_path / "in")["train"]) == 3


@pytest.mark.parametrize(
    "broken", ["", '{"people": [', '{"people": []}, {"people": []}', "[1, 2]", "null", '"people"']
)
def test_a_frame_of_openpose_that_is_broken_is_named(tmp_path, broken):
    """Though frames are parsed together."""
    frames = [json.dumps({"people": [one]}) for one in flat(np.abs(some_raw(18)))]
    content = "\0".join([*frames[:3], broken, *frames[4:]]).encode()
    with pytest.raises(ValueError, match="frame 3: expected JSON with 'people', found: "):
        openpose.parse_clip(content, openpose.Kind(18, False), 1)


def test_openpose_in_space_is_not_mixed_with_pixels(tmp_path):
    """Where the first clip has poses in space, those are taken of all, and flat ones of nobody."""
    raw = some_raw(25)
    deep = np.concatenate([raw, np.ones_like(raw[:1])])
    people = [
        {**two, "pose_keypoints_3d": pose.reshape(-1).tolist() if number > 2 else []}
        for number, (two, pose) in enumerate(zip(flat(raw), deep[..., 0].transpose(1, 2, 0), strict=True))
    ]
    write_frames(tmp_path / "in" / "walk", [[one] for one in people])
    dataset = prepared("openpose", tmp_path / "out", tmp_path / "in")
    assert not dataset.preprocessing.planar and dataset["train"].frames.tolist() == [12]
    np.testing.assert_array_equal(dataset["train"].clips[0][:, :9], raw[:, 3:])


def test_openpose_leaves_out_a_clip_that_is_broken_wherever_it_is(tmp_path):
    raw = np.abs(some_raw(18))
    for name in ("a", "b"):
        foreign.write_openpose(tmp_path / "in" / "walk" / name, f"{name}_", raw)
    next((tmp_path / "in" / "walk" / "a").iterdir()).write_text("")
    dataset = prepared("openpose", tmp_path / "out", tmp_path / "in")
    assert dataset["train"].names.tolist() == ["b"] and dataset.skipped[0][0] == "a"
    for content, said in (('[{"pose": []}]', "'pose_keypoints_2d'.*found"), ("[{}]", "found"), ("3", "list")):
        next((tmp_path / "in" / "walk" / "b").iterdir()).write_text(f'{{"people": {content}}}')
        with pytest.raises(InputError, match=said):
            list(FORMATS["openpose"].read(tmp_path / "in" / "walk" / "b"))


def marks(raw):
    """The landmarks of each frame's first body."""
    return [
        [{**dict(zip("xyz", joint.tolist(), strict=True)), "visibility": 0.9} for joint in pose]
        for pose in raw[..., 0].transpose(1, 2, 0)
    ]


def in_file(folder, content):
    (folder / "walk").mkdir(parents=True)
    (folder / "walk" / "c.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("world", ["pose_world_landmarks", "poseWorldLandmarks", "worldLandmarks"])
def test_landmarks_in_meters_are_not_mixed_with_those_of_the_picture(tmp_path, world):
    """Where a frame has the picture's alone, nobody is in it; names may be JavaScript's."""
    raw = some_raw(33)
    picture = {"worldLandmarks": "landmarks", "poseWorldLandmarks": "poseLandmarks"}.get(
        world, "pose_landmarks"
    )
    frames = [{picture: marks(some_raw(33))[0], world: one} for one in marks(raw)]
    del frames[5][world]
    dataset = prepared("mediapipe", tmp_path / "out", in_file(tmp_path / "in", frames))
    assert dataset["train"].frames.tolist() == [12]
    expected = np.delete(raw, 5, axis=1)
    np.testing.assert_array_equal(dataset["train"].clips[0][:, :11], expected)
    pictures = [{picture: one} for one in marks(raw)]
    dataset = prepared("mediapipe", tmp_path / "out2", in_file(tmp_path / "in2", pictures))
    np.testing.assert_array_equal(dataset["train"].clips[0], raw)


@pytest.mark.parametrize("first", [None, [], {"pose_landmarks": None}])
@pytest.mark.parametrize("form", ["object", "landmarks", "people"])
def test_frames_of_landmarks_are_frames_whoever_is_in_the_first(tmp_path, form, first):
    raw = some_raw(33)
    folder = tmp_path / "in" / "walk" / "c"
    folder.mkdir(parents=True)
    forms = {
        "object": lambda one: {"pose_landmarks": one},
        "landmarks": lambda one: one,
        "people": lambda one: [one],
    }
    for number, content in enumerate([first, *map(forms[form], marks(raw))]):
        (folder / f"c_{number:06d}.json").write_text(json.dumps(content))
    assert find_format(tmp_path / "in")[0].name == "mediapipe"
    dataset = prepared("mediapipe", tmp_path / "out", tmp_path / "in")
    assert dataset["train"].names.tolist() == ["c"]
    np.testing.assert_array_equal(dataset["train"].clips[0], raw)


def test_landmarks_that_are_others(tmp_path):
    twice = [[*one, *one] for one in marks(some_raw(33))]
    numbered = {"frames": dict(enumerate(marks(some_raw(33))))}
    for number, (content, said) in enumerate(
        (
            (twice, "expected 33 landmarks"),
            (numbered, "expected a list of frames"),
            ({"data": twice}, "frame_000001"),
        )
    ):
        with pytest.raises(InputError, match=said):
            prepared("mediapipe", tmp_path / f"{number}", in_file(tmp_path / f"in{number}", content))


def annotations(raw, ids=range(12), **more):
    """COCO's of the first body."""
    poses = raw[..., 0].transpose(1, 2, 0)
    return [
        {"image_id": image, "keypoints": pose.reshape(-1).tolist(), **more}
        for image, pose in zip(ids, poses, strict=True)
    ]


IDS = [905, 17, 333, 42, 7, 100, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["f{:02d}.jpg", "{}_2.jpg", "clip/1080p-{}.jp2", "2_{:04d}_t{}.5.png", "{}"])
def test_images_are_in_the_order_of_their_names(tmp_path, name):
    """Whatever their ids are, and whichever number of the name counts."""
    raw = np.abs(some_raw(17))
    names = [name.format(number, number) for number in range(12)]
    images = [{"id": image, "file_name": file} for image, file in zip(IDS, names, strict=True)]
    several = [{"id": 2000 + n, "file_name": f"{'x' * 80}{n:04d}.jpg"} for n in range(1000)]
    ordered = {"images": images + several, "annotations": annotations(raw, IDS)[::-1]}
    for form, content in (("ids", ordered), ("names", annotations(raw, names)[::-1])):
        assert find_format(in_file(tmp_path / form, content))[0].name == "coco"
        dataset = prepared("coco", tmp_path / f"{form}-out", tmp_path / form)
        np.testing.assert_array_equal(dataset["train"].clips[0], raw)


def test_images_of_hashed_names_are_in_the_order_of_their_ids(tmp_path):
    raw = np.abs(some_raw(17))
    images = [{"id": n, "file_name": f"f_jpg.rf.{n * 7919 % 97:02x}ab.jpg"} for n in range(12)]
    found = {"images": images, "annotations": annotations(raw)[::-1]}
    dataset = prepared("coco", tmp_path / "out", in_file(tmp_path / "in", found))
    np.testing.assert_array_equal(dataset["train"].clips[0], raw)


@pytest.mark.parametrize(
    "names",
    [
        [f"v{n // 6}_{n % 6:04d}.jpg" for n in range(12)],
        [f"v{n // 6}/{n:04d}.jpg" for n in range(12)],
        list("abcdefghijkl"),
    ],
    ids=["in names", "in folders", "without numbers"],
)
def test_images_of_several_clips_are_refused(tmp_path, names):
    with pytest.raises(InputError, match=r"c: expected (images of one clip|names with a number).*, found"):
        prepared("coco", tmp_path / "out", in_file(tmp_path / "in", annotations(some_raw(17), names)))


def test_mmpose_as_its_demos_write(tmp_path):
    raw = np.abs(some_raw(17))
    frames = [
        {
            "frame_id": n,
            "instances": [{"keypoints": pose[:, :2].tolist(), "keypoint_scores": pose[:, 2].tolist()}],
        }
        for n, pose in enumerate(raw[..., 0].transpose(1, 2, 0))
    ]
    for form, content in (("alone", frames), ("demo", {"meta_info": {}, "instance_info": frames})):
        dataset = prepared("coco", tmp_path / f"{form}-out", in_file(tmp_path / form, content))
        np.testing.assert_array_equal(dataset["train"].clips[0], raw)


def test_who_is_who_in_coco(tmp_path):
    """Not the longest track of empty poses, nor one that two people of an image have; a box is nobody."""
    raw, other = np.abs(some_raw(17)), np.abs(some_raw(17)) + 900
    empty = annotations(np.zeros_like(raw), track_id=[1])
    both = annotations(raw, track_id={"a": -1}) + annotations(other[:, :4], range(4), track_id={"a": -1})
    boxed = [*annotations(raw), {"image_id": 3, "bbox": [0, 0, 1, 1]}]
    for number, content in enumerate((empty + annotations(raw, track_id=[2]), both, boxed)):
        dataset = prepared("coco", tmp_path / f"{number}-out", in_file(tmp_path / f"{number}", content))
        np.testing.assert_array_equal(dataset["train"].clips[0], raw)
    whole_body = [{"image_id": 1, "keypoints": [1] * 399}]
    with pytest.raises(InputError, match="17 joints, found: ValueError: 133 joints"):
        prepared("coco", tmp_path / "out", in_file(tmp_path / "whole body", whole_body))
