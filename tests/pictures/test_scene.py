"""Panels show what a clip holds: upright, apart, facing the viewer; vectors where and as they are."""

import numpy as np
import pytest
import torch

from ikem_fast import ops
from ikem_fast.data import preprocess_clip
from ikem_fast.data.synthetic import generate_clip, plan_clips
from ikem_fast.pictures import body_panel, modality_panels
from ikem_fast.skeleton import MODALITIES, get_layout, layout_names

NTU = get_layout("ntu-rgb+d")


def simulated(label):
    plan = next(clip for clip in plan_clips(3) if clip.label == label)
    return preprocess_clip(generate_clip(plan, 0), frames=20)


def of_joint(panel, joint):
    return panel.points[:, NTU.joints.index(joint)]


def panels_of(clip):
    derived = ops.derive_modalities(torch.from_numpy(clip)[None], torch.tensor([40]))[:, 0].numpy()
    return {
        panel.title: panel
        for panel in modality_panels(clip, dict(zip(MODALITIES, derived, strict=True)), NTU)
    }


def test_a_body_stands_upright_on_the_floor_and_looks_at_the_viewer():
    panel = body_panel(simulated(0), NTU)
    assert np.nanmin(panel.points[..., 1]) == pytest.approx(0, abs=0.05)
    assert np.nanmax(panel.points[..., 1]) == pytest.approx(1, abs=0.1)
    assert (of_joint(panel, "head")[:, 1] > of_joint(panel, "left ankle")[:, 1] + 0.6).all()
    assert (of_joint(panel, "right shoulder")[:, 0] > of_joint(panel, "left shoulder")[:, 0]).all()


@pytest.mark.parametrize("turn", [(0, 1, 2, 1, -1, -1), (0, 2, 1, 1, 1, -1)], ids=["y down", "z up"])
def test_other_axes_give_the_same_picture(turn):
    clip = simulated(0)
    signs = np.array(turn[3:], np.float32)[:, None, None, None]
    expected, found = body_panel(clip, NTU).points, body_panel((clip * signs)[list(turn[:3])], NTU).points
    height = lambda points: points[:, NTU.joints.index("head"), 1]  # noqa: E731
    np.testing.assert_allclose(height(found), height(expected), atol=1e-4)
    assert (found[:, NTU.shoulders[0], 0] > found[:, NTU.shoulders[1], 0]).all()


def test_two_bodies_stand_apart_and_an_absent_one_is_not_there():
    two, one = body_panel(simulated(10), NTU), body_panel(simulated(0), NTU)
    assert two.points.shape[1] == 2 * one.points.shape[1]
    centers = np.nanmean(two.points[..., 0].reshape(20, 2, -1), (0, 2))
    assert abs(centers[1] - centers[0]) > 0.4
    clip = simulated(10)
    clip[:, 5, :, 1] = 0
    assert np.isnan(body_panel(clip, NTU).points[5, NTU.num_joints :]).all()


@pytest.mark.parametrize("name", layout_names())
def test_every_layout_has_bones_of_both_sides(name):
    layout = get_layout(name)
    clip = np.random.default_rng(0).normal(size=(3, 6, layout.num_joints, 1)).astype(np.float32)
    panel = body_panel(clip, layout)
    assert len(panel.bones) == layout.num_joints - len(layout.roots)
    sides = [side for _, _, side in panel.bones]
    assert sides.count(1) == sides.count(2) > 0


def test_bones_end_at_their_joints_and_the_root_carries_the_normal():
    panel = panels_of(simulated(0))["bone"]
    ends = panel.starts + panel.vectors
    others = [v for v in range(NTU.num_joints) if v != NTU.root]
    np.testing.assert_allclose(ends[:, others], panel.points[:, others], atol=1e-5)
    assert np.linalg.norm(panel.vectors[:, NTU.root], axis=-1) == pytest.approx(0.25, abs=1e-3)


def test_motion_points_where_a_joint_goes():
    panel = panels_of(simulated(2))["motion"]  # a circling arm
    hand = NTU.joints.index("right wrist")
    moved = simulated(2)[:, 1:, hand, 0] - simulated(2)[:, :-1, hand, 0]
    drawn = panel.vectors[:-1, hand]
    seen = np.isfinite(drawn).all(1) & (np.linalg.norm(moved, axis=0) > 0.05)
    assert seen.sum() > 5
    up = np.sign(drawn[seen, 1]) == np.sign(moved[1, seen])
    assert up.all()
    assert np.isnan(panel.vectors[-1]).all()  # there is no later frame


def test_arrows_stay_in_the_picture():
    clip = simulated(0)
    clip[:, 9, 4, 0] += 30  # a glitch
    for panel in panels_of(clip).values():
        if panel.mark in ("arrow", "turn"):
            assert np.nanmax(np.linalg.norm(panel.vectors, axis=-1)) < 0.5


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match="expected some of joint, motion"):
        modality_panels(simulated(0), {"smell": simulated(0)}, NTU)
