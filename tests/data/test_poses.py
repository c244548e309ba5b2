"""Poses out of other programs: MediaPipe, COCO key points, motion capture."""

import json
import warnings

import numpy as np
import pytest
import torch

from ikem_fast import MODALITIES, ops
from ikem_fast.data import FORMATS
from ikem_fast.data.formats import bvh, c3d, coco, mediapipe
from ikem_fast.errors import InputError
from ikem_fast.skeleton import get_layout
from tests.data import foreign
from tests.data.test_own import check, some_raw


def test_mediapipe(tmp_path):
    raws = {name: some_raw(33) for name in ("a", "b")}
    for name, label in (("a", "walk"), ("b", "sit")):
        foreign.write_mediapipe(tmp_path / "in" / label / f"{name}.json", raws[name])
    dataset = FORMATS["mediapipe"].prepare(tmp_path / "out", tmp_path / "in", workers=1)
    assert (dataset.layout, dataset.classes) == ("mediapipe-33", ("sit", "walk"))
    for name, raw in raws.items():
        check(dataset["train"], name, raw, "mediapipe-33")
    frames = json.loads((tmp_path / "in" / "walk" / "a.json").read_text())["frames"]
    marks = [frame["pose_world_landmarks"][0] for frame in frames]
    forms = {
        "a list of marks": marks,
        "one person": [{"pose_landmarks": one} for one in marks],
        "as protocol buffers": [{"pose_landmarks": {"landmark": one}} for one in marks],
        "world ahead of picture": [
            {"pose_world_landmarks": one, "pose_landmarks": marks[0]} for one in marks
        ],
    }
    for form, content in forms.items():
        found = mediapipe.parse_clip(json.dumps(content).encode(), 1)
        np.testing.assert_array_equal(found, raws["a"], err_msg=form)
    gaps = mediapipe.parse_clip(json.dumps([None, marks[0], {}, [], {"landmarks": None}]).encode(), 2)
    assert gaps.any(axis=(0, 2)).tolist() == [[False] * 2, [True, False], *[[False] * 2] * 3]
    for number, one in enumerate(marks):
        path = tmp_path / "frames" / "walk" / "clip" / f"clip_{number:06d}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"pose_landmarks": one}))
    by_frames = FORMATS["mediapipe"].prepare(tmp_path / "out2", tmp_path / "frames", workers=1)
    check(by_frames["train"], "clip", raws["a"], "mediapipe-33")
    for content in ("{", "3", "[]", "[[1]]", '[{"landmarks": [{"x": 1, "y": 2, "z": 3}]}]', '{"frames": 1}'):
        with pytest.raises(ValueError, match="expected"):
            mediapipe.parse_clip(content.encode(), 1)


@pytest.mark.parametrize("tracks", [True, False])
def test_coco(tmp_path, tracks):
    raw = np.abs(some_raw(17, 2)) + np.array([0.0, 50.0])
    raw = raw.astype(np.float32)
    raw[:, 3, :, 1] = 0
    path = tmp_path / "in" / "walk" / "clip.json"
    foreign.write_coco(path, raw, tracks, lambda t, people: people[:: -1 if t % 2 else 1])
    np.testing.assert_array_equal(coco.parse_clip(path.read_bytes(), 2), raw)
    dataset = FORMATS["coco"].prepare(tmp_path / "out", tmp_path / "in", workers=1)
    assert (dataset.layout, dataset.num_bodies) == ("coco", 1)
    annotations = [{**one, "image_id": int(one["image_id"][5:-4])} for one in json.loads(path.read_text())]
    whole = json.dumps({"images": [], "annotations": annotations}).encode()
    np.testing.assert_array_equal(coco.parse_clip(whole, 2), raw)
    annotations[0]["keypoints"][2:8:3] = [0, 0]
    there = coco.parse_clip(json.dumps(annotations[:1]).encode(), 1).any(axis=(0, 1, 3))
    assert there.tolist() == [False] * 2 + [True] * 15, "of no score, at zero"
    for content in ("[", "3", "[]", "[3]", '[{"image_id": 1}]', '[{"image_id": 1, "keypoints": [1]}]'):
        with pytest.raises(ValueError, match="expected"):
            coco.parse_clip(content.encode(), 1)


def test_bvh(tmp_path):
    """Places are those that a chain of rotations by hand gives."""
    numbers = np.random.default_rng(0).uniform(-90, 90, size=(6, 15))
    foreign.write_bvh(tmp_path / "in" / "walk" / "a.bvh", numbers)
    motion = bvh.parse_motion((tmp_path / "in" / "walk" / "a.bvh").read_bytes())
    assert [joint.name for joint in motion.joints] == ["Hips", "LeftArm", "RightArm", "RightHand"]
    assert motion.frame_rate == pytest.approx(40)
    places = motion.positions()
    cos, sin = np.cos(np.radians(numbers)), np.sin(np.radians(numbers))
    for t in range(6):

        def turn(column, t=t):  # Z, then X, then Y, each about an axis of the joint's own
            (a, b, c), (i, j, k) = cos[t, column : column + 3], sin[t, column : column + 3]
            z = np.array([[a, -i, 0], [i, a, 0], [0, 0, 1]])
            x = np.array([[1, 0, 0], [0, b, -j], [0, j, b]])
            y = np.array([[c, 0, k], [0, 1, 0], [-k, 0, c]])
            return z @ x @ y

        hips = np.array([1, 2, 3]) + numbers[t, :3]
        right = hips + turn(3) @ [2, 5, 0]
        hand = right + turn(3) @ turn(9) @ [3, 0, 0]
        np.testing.assert_allclose(places[t], [hips, hips + turn(3) @ [-2, 5, 0], right, hand], atol=1e-6)
    dataset = FORMATS["bvh"].prepare(tmp_path / "out", tmp_path / "in", workers=1)
    skeleton = dataset.skeleton
    assert skeleton.parents == (0, 0, 0, 2) and skeleton.shoulders == (2, 1)
    check(dataset["train"], "a", places.transpose(2, 0, 1)[..., None].astype(np.float32), skeleton)
    chosen = tmp_path / "two.yaml"
    chosen.write_text("name: two\njoints: [RightHand, LeftArm]\nparents: [-1, 0]\nshoulders: [0, 1]\n")
    two = FORMATS["bvh"].prepare(tmp_path / "out2", tmp_path / "in", layout=str(chosen), workers=1)
    check(two["train"], "a", places[:, [3, 1]].transpose(2, 0, 1)[..., None].astype(np.float32), two.skeleton)


def test_broken_bvh(tmp_path):
    whole = foreign.BVH % 1 + foreign.lines(np.ones((1, 15)))
    changes = {
        "HIERARCHY": "expected HIERARCHY", "MOTION": "expected HIERARCHY and MOTION", "Frames:": "'Frames:'",
        "Frames: 1": "expected 2 frames of 15 numbers, found 15 in all", "0.025": "a frame time above 0",
        "Zrotation": "channels such as", "OFFSET 2 5 0": "numbers", "JOINT RightHand": "in it",
        "}\nMOTION": "its end missing",
    }  # fmt: skip
    other = {"Frames: 1": "Frames: 2", "0.025": "0", "OFFSET 2 5 0": "OFFSET 2 x 0", "}\nMOTION": "\nMOTION"}
    for part, said in changes.items():
        broken = whole.replace(part, other.get(part, "?"))
        assert broken != whole
        with pytest.raises(ValueError, match=said):
            bvh.parse_motion(broken.encode())
    twice = bvh.parse_motion(whole.replace("RightHand", "Hips").encode())
    with pytest.raises(InputError, match="joints of different names"):
        bvh.layout_of(twice.joints)
    with pytest.raises(ValueError, match="expected joints Nose, found Hips, LeftArm"):
        bvh.parse_clip(whole.encode(), ("Nose",))
    doubled = whole.replace("RightHand", "LeftArm").encode()
    with pytest.raises(ValueError, match="expected joints of different names, found LeftArm twice: Hips, "):
        bvh.parse_clip(doubled, ("Hips", "LeftArm"))
    assert bvh.parse_clip(doubled, ("Hips",)).coordinates.shape == (3, 1, 1, 1), (
        "the others are not asked for"
    )


def test_an_angle_that_is_not_finite_makes_no_warning():
    """The clip is left out by name for its places."""
    whole = foreign.BVH % 1 + foreign.lines(np.full((1, 15), np.inf))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(bvh.parse_motion(whole.encode()).positions()).any()


def test_c3d(tmp_path):
    ezc3d = pytest.importorskip("ezc3d")
    raw = some_raw(3)
    made = ezc3d.c3d()
    made["parameters"]["POINT"]["LABELS"]["value"] = ("LSHO", "RSHO", "HEAD")
    made["parameters"]["POINT"]["RATE"]["value"] = [50]
    made["data"]["points"] = np.concatenate([raw[..., 0].transpose(0, 2, 1), np.ones((1, 3, 12))])
    (tmp_path / "in" / "walk").mkdir(parents=True)
    made.write(str(tmp_path / "in" / "walk" / "a.c3d"))
    layout = tmp_path / "markers.yaml"
    layout.write_text("name: markers\njoints: [HEAD, RSHO, LSHO]\nparents: [-1, 0, 0]\nshoulders: [1, 2]\n")
    dataset = FORMATS["c3d"].prepare(tmp_path / "out", tmp_path / "in", str(layout), workers=1)
    check(dataset["train"], "a", raw[:, :, [2, 1, 0]], dataset.skeleton)
    content = (tmp_path / "in" / "walk" / "a.c3d").read_bytes()
    with pytest.raises(ValueError, match="expected markers NOSE, found LSHO"):
        c3d.parse_clip(content, ("NOSE",))
    with pytest.raises(ValueError, match="expected markers of different names, found LSHO twice"):
        c3d.parse_clip(content.replace(b"RSHO", b"LSHO"), ("HEAD", "LSHO"))
    with pytest.raises(ValueError, match="expected a C3D file"):
        c3d.parse_clip(content[:100], ("HEAD",))


def test_what_modalities_of_poses_in_a_plane_are():
    """As docs/formats.md says: axes stand upright on the plane, but for those at the root's normal."""
    layout = get_layout("coco")
    flat = torch.randn(2, 3, 20, 17, 1)
    flat[:, 2] = 0
    derived = ops.derive_modalities(flat, torch.tensor([20, 40]), layout="coco")
    modalities = dict(zip(MODALITIES, derived, strict=True))
    away = [v for v in range(17) if layout.root not in (v, layout.axis_parents[v])]
    assert away and modalities["rotation_axis"][:, 2, :, away].abs().max() > 0.1
    assert not modalities["rotation_axis"][:, :2, :, away].any()
    assert not any(modalities[name][:, 2].any() for name in ("joint", "motion", "acceleration"))
    assert all(modality.isfinite().all() for modality in modalities.values())
