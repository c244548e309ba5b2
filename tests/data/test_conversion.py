"""Clips of one layout in another: joints by name, missing ones where their parents are."""

from dataclasses import replace

import numpy as np
import pytest

from ikem_fast.data import convert, convert_clips, convert_dataset
from ikem_fast.data.preparation import Preprocessing
from ikem_fast.data.steps import pose
from ikem_fast.errors import InputError
from ikem_fast.skeleton import Layout, get_layout, register_layout


def test_joints_are_found_by_name_and_the_root_is_the_target_s():
    clips = np.random.default_rng(0).normal(size=(2, 3, 4, 20, 2)).astype(np.float32)
    converted = convert_clips(clips, "kinect-v1", "utd-mhad")
    names = {layout: get_layout(layout).joints for layout in ("kinect-v1", "utd-mhad")}
    root = clips[..., names["kinect-v1"].index("shoulder centre"), :]
    for v, joint in enumerate(names["utd-mhad"]):
        expected = clips[..., names["kinect-v1"].index(joint), :] - root
        np.testing.assert_array_equal(converted[..., v, :], expected)
    again = convert_clips(converted, "utd-mhad", "kinect-v1")
    np.testing.assert_allclose(again, clips - root[..., None, :], atol=1e-6)


@pytest.mark.parametrize("center", ["frame", "clip", "pair", "none"])
def test_where_bodies_go_stays_as_the_preparation_left_it(center):
    """Equal joints under another root: what prepares raw clips in the one layout gives the same."""
    raw = np.random.default_rng(0).normal(size=(3, 9, 20, 2)).astype(np.float32)
    raw[:, :2, :, 1] = 0  # the second body comes later
    choice = Preprocessing(center=center, align="none")
    source, target = get_layout("kinect-v1"), get_layout("utd-mhad")
    before, expected = (
        pose(clip, layout, choice) for clip, layout in ((raw, source), (convert(raw, source, target), target))
    )
    converted = convert_clips(before[None], source, target, choice=choice)[0]
    np.testing.assert_allclose(converted, expected, atol=1e-6)
    assert not converted[:, :2, :, 1].any()


def test_scores_of_poses_in_a_plane_are_not_coordinates():
    clips = np.random.default_rng(0).normal(size=(2, 3, 4, 17, 1)).astype(np.float32)
    converted = convert_clips(clips, "coco", "h36m", choice=Preprocessing(planar=True, align="none"))
    np.testing.assert_array_equal(converted[:, 2], convert(clips, "coco", "h36m")[:, 2])
    assert not converted[:, :2, :, get_layout("h36m").root].any()


def test_missing_joints_are_where_their_parents_are():
    clips = np.random.default_rng(0).normal(size=(1, 3, 2, 20, 1)).astype(np.float32)
    layout = get_layout("ntu-rgb+d")
    converted = convert_clips(clips, "kinect-v1", layout.name)
    for joint in ("left thumb", "right hand tip"):
        v = layout.joints.index(joint)
        np.testing.assert_array_equal(converted[..., v, :], converted[..., layout.parents[v], :])


def test_bodies_are_added_and_left_out():
    clips = np.ones((1, 3, 2, 20, 2), np.float32) * np.arange(20)[:, None]
    three, one = (convert_clips(clips, "kinect-v1", "utd-mhad", bodies) for bodies in (3, 1))
    assert three.shape[-1] == 3 and not three[..., 2].any() and three[..., 1].any()
    np.testing.assert_array_equal(one, three[..., :1])


def test_layouts_without_a_common_joint_are_refused():
    tables = {"parents": (-1, 0, 1), "torso": (0, 1, 2), "shoulders": (1, 2)}
    register_layout(Layout("cube of a test", ("p", "q", "r"), **tables))
    with pytest.raises(InputError, match="expected joints that 'sbu' has, found none"):
        convert_clips(np.zeros((1, 3, 2, 15, 1), np.float32), "sbu", "cube of a test")
    with pytest.raises(InputError, match="layout: expected one of"):
        convert_clips(np.zeros((1, 3, 2, 15, 1), np.float32), "sbu", "nowhere")


def test_a_dataset_is_converted_whole(tiny_dataset):
    from ikem_fast.data import open_dataset

    dataset = open_dataset(tiny_dataset)
    assert convert_dataset(dataset, dataset.layout) is dataset
    other = convert_dataset(dataset, "kinect-v1", 1)
    assert (other.layout, other.num_bodies, other.num_joints) == ("kinect-v1", 1, 20)
    for name, split in other.splits.items():
        assert split.clips.shape == (len(dataset[name]), 3, 50, 20, 1)
        assert not split.clips[..., get_layout("kinect-v1").root, :].any()  # it was prepared frame by frame
        assert split.labels.tolist() == dataset[name].labels.tolist()


def named(layout, clip):
    return {joint: clip[..., v, :] for v, joint in enumerate(get_layout(layout).joints)}


@pytest.mark.parametrize(
    ("source", "target", "rules"),
    [
        ("kinect-v1", "ntu-rgb+d", {"base of spine": "hip centre", "spine": "shoulder centre",
                                    "neck": "shoulder centre", "left thumb": "left hand"}),
        ("ntu-rgb+d", "coco", {"nose": "head", "left ear": "head", "left hip": "left hip"}),
        ("smpl", "h36m", {"spine": "middle spine", "thorax": "upper spine", "left wrist": "left wrist"}),
        ("coco", "h36m", {"pelvis": ("left hip", "right hip"), "neck": ("left shoulder", "right shoulder"),
                          "left knee": "left knee"}),
        ("coco", "ntu-rgb+d", {"base of spine": ("left hip", "right hip"), "left hand": "left wrist",
                               "left hand tip": "left wrist", "head": "nose"}),
        ("openpose-25", "kinect-v1", {"hip centre": "pelvis", "left foot": "left big toe"}),
        ("mediapipe-33", "smpl", {"left hand": "left index", "left foot": "left big toe"}),
    ],
)  # fmt: skip
def test_rules(source, target, rules):
    clips = np.random.default_rng(0).normal(size=(2, 3, 4, get_layout(source).num_joints, 2))
    before, after = named(source, clips), named(target, convert(clips, source, target))
    for joint, origin in rules.items():
        one, other = (origin, origin) if isinstance(origin, str) else origin
        np.testing.assert_allclose(after[joint], (before[one] + before[other]) / 2, err_msg=joint)


def test_the_spine_is_between_hips_and_shoulders():
    clips = np.random.default_rng(0).normal(size=(3, 4, 17, 1)).astype(np.float32)
    clips[..., 0] = np.where(np.arange(4)[:, None] < 2, clips[..., 0], 0)  # a body that leaves
    converted = convert(clips, "coco", "h36m")
    corners = [get_layout("coco").joints.index(f"{side} {part}")
               for part in ("hip", "shoulder") for side in ("left", "right")]  # fmt: skip
    assert converted.dtype == np.float32 and converted.shape == (3, 4, 17, 1) and not converted[:, 2:].any()
    np.testing.assert_allclose(converted[:, :, 7], clips[:, :, corners].mean(2), atol=1e-6)


def test_the_same_layout_is_the_same_clip():
    clips = np.random.default_rng(0).normal(size=(3, 4, 25, 1)).astype(np.float32)
    np.testing.assert_array_equal(convert(clips, "ntu-rgb+d", "ntu-rgb+d-chain"), clips)
    with pytest.raises(ValueError, match=r"expected \(…, V=17, M\) for layout 'coco', found \(3, 4, 25, 1\)"):
        convert(clips, "coco", "h36m")


def test_a_dataset_of_clips_centered_once_keeps_where_people_go(tiny_dataset):
    from ikem_fast.data import open_dataset

    dataset = open_dataset(tiny_dataset)
    dataset = replace(dataset, prepared={**dataset.prepared, "center": "none"})
    clips = convert_dataset(dataset, "kinect-v1")["train"].clips
    np.testing.assert_array_equal(clips, convert(dataset["train"].clips, dataset.skeleton, "kinect-v1"))
