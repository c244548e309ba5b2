"""Clips of one layout in another: joints by name, missing ones where their parents are."""

import numpy as np
import pytest

from ikem_fast.data import convert_clips, convert_dataset
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
        assert split.labels.tolist() == dataset[name].labels.tolist()
