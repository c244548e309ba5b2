"""Joint layouts and the graph made of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ikem_fast import augment
from ikem_fast.errors import InputError
from ikem_fast.nn import IKEM
from ikem_fast.ops import derive_modalities, preprocess_clips
from ikem_fast.skeleton import NTU_RGBD, Layout, get_layout, joint_weights, layout_names, register_layout
from ikem_fast.skeleton.checks import mirrored_name
from tests.helpers import needs_kernel


@pytest.mark.parametrize("name", layout_names())
def test_layout_is_a_tree_with_sides(name):
    layout = get_layout(name)
    for joint in range(layout.num_joints):
        steps = 0
        while joint != layout.root:
            joint, steps = layout.parents[joint], steps + 1
            assert steps <= layout.num_joints, "parents run in a circle"
    assert layout.hops().max() < layout.num_joints, "the graph does not hang together"
    mirrored = [layout.joints[v].replace("left", "L").replace("right", "left").replace("L", "right")
                for v in range(layout.num_joints)]  # fmt: skip
    assert [layout.joints[layout.swap[v]] for v in range(layout.num_joints)] == mirrored
    a, b, c = layout.torso
    assert len({a, b, c}) == 3
    right, left = layout.shoulders
    assert "right" in layout.joints[right] and "left" in layout.joints[left]


@pytest.mark.parametrize("name", layout_names())
def test_parts_hold_every_joint_once_and_mirror_each_other(name):
    layout = get_layout(name)
    parts = layout.parts()
    assert sorted(v for part in parts for v in part) == list(range(layout.num_joints))
    mirrored = {tuple(sorted(layout.swap[v] for v in part)) for part in parts}
    assert mirrored == set(parts) and len(parts) in (5, 7, 9), "trunk, arms, legs; eyes with ears, mouth"
    named = [" ".join(layout.joints[v] for v in part) for part in parts[1:]]
    arms = [names for names in named if "elbow" in names]
    assert len(arms) == 2 and not any(word in names for names in arms for word in ("knee", "foot", "ear"))


def test_a_layout_without_sides_has_parts_too():
    stick = Layout("stick", ("hip", "head", "right", "left", "right hand"), parents=(-1, 0, 1, 1, 2),
                   torso=(0, 2, 3), shoulders=(2, 3))  # fmt: skip
    assert stick.parts() == ((0, 1, 2, 3), (4,))


@pytest.mark.parametrize("strategy", ["spatial", "distance"])
@pytest.mark.parametrize("name", layout_names())
def test_adjacency_columns_sum_to_one(name, strategy):
    A = get_layout(name).adjacency(strategy)
    np.testing.assert_allclose(A.sum((0, 1)), 1, rtol=1e-6)
    np.testing.assert_array_equal(A[0], np.diag(np.diag(A[0])))
    assert ((A > 0).sum(0) <= 1).all(), "partitions overlap"


def test_published_distances_stop_at_one_hop():
    assert [int((partition > 0).sum()) for partition in NTU_RGBD.adjacency("spatial")] == [25, 40, 8]
    assert [int((partition > 0).sum()) for partition in NTU_RGBD.adjacency("distance")] == [25, 24, 24]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parents": NTU_RGBD.parents[:-1]}, "parents must hold 25 joints, found 24"),
        ({"parents": (*NTU_RGBD.parents[:-1], 25)}, "parents must hold joints 0 … 24"),
        ({"parents": (*NTU_RGBD.parents[:-1], -2)}, "parents must hold joints 0 … 24"),
        (
            {"parents": (1, 0, *NTU_RGBD.parents[2:])},
            r"circle: 0 \(base of spine\) → 1 \(mid.*\) → 0 \(",
        ),
        ({"parents": (*range(1, 25), 0)}, r"a circle: 0 \(base .* → 24 \(right thumb\) → 0 \("),
        ({"axis_parents": NTU_RGBD.parents[:-1]}, "axis_parents must hold 25 joints, found 24"),
        ({"torso": (1, 4)}, "torso must hold 3 joints"),
        ({"shoulders": (1, 4, 8)}, "shoulders must hold 2 joints"),
        ({"swap": (1, 0)}, "swap must hold 25 joints"),
        ({"edges": ((0, 1, 2),)}, "edges must hold 2 joints, found 3"),
        ({"torso": (1, 4, 25)}, "torso"),
        ({"swap": (1, 2, 0, *NTU_RGBD.swap[3:])}, "inverse"),
        ({"edges": ((0, 99),)}, "edges"),
    ],
)
def test_layout_errors_name_the_table(change, message):
    with pytest.raises(ValueError, match=message):
        replace(NTU_RGBD, **({"axis_parents": ()} | change))


def two_trees(parents):
    """A body of three joints and a stick of two, which hangs on nothing."""
    return Layout("two trees", tuple("abcde"), parents, torso=(0, 1, 2), shoulders=(1, 2))


def test_roots_are_their_own_parents_or_have_none():
    forest = two_trees((-1, 0, 0, -1, 3))
    assert forest.parents == (0, 0, 0, 3, 3) and (forest.root, forest.roots) == (0, (0, 3))
    assert forest == two_trees((0, 0, 0, 3, 3)) == two_trees(np.array([-1, 0, 0, 3, 3]))
    assert forest.edges == ((1, 0), (2, 0), (4, 3))
    assert forest.hops().tolist() == [0, 1, 1, 0, 1]
    np.testing.assert_allclose(forest.adjacency("distance").sum((0, 1)), 1, rtol=1e-6)
    assert two_trees((1, 1, 1, 1, 1)).root == 1


def test_limbs_of_a_forest_hang_on_no_root():
    limbs = augment.draw_limb(100, two_trees((-1, 0, 1, -1, 3)))
    assert {tuple(limb.nonzero().flatten().tolist()) for limb in limbs} == {(1, 2), (2,), (4,)}
    with pytest.raises(ValueError, match="'two trees' has no limbs"):
        augment.draw_limb(1, two_trees((-1, -1, -1, -1, -1)))


@pytest.mark.parametrize("impl", ["reference", pytest.param("fused", marks=needs_kernel)])
def test_modalities_of_a_forest(impl):
    """The first root carries the normal of the torso, whichever joint it is; other roots' bones are zero."""
    x = torch.randn(4, 3, 7, 5, 2, requires_grad=True)
    for parents, root, other in (((-1, 0, 0, -1, 3), 0, 3), ((1, -1, 1, 4, -1), 1, 4)):
        bone, axis, turn = derive_modalities(
            x, modalities=("bone", "rotation_axis", "angular_velocity"), layout=two_trees(parents), impl=impl
        )
        torch.testing.assert_close(bone[:, :, :, root].norm(dim=1), torch.ones(4, 7, 2))
        for zero in (bone, axis, turn):
            assert not zero[:, :, :, other].any()
        child = 4 if other == 3 else 3
        torch.testing.assert_close(bone[:, :, :, child], x[:, :, :, child] - x[:, :, :, other])
        (gradient,) = torch.autograd.grad((bone * torch.arange(1.0, 6)[:, None]).sum(), x)
        assert torch.isfinite(gradient).all()
        assert (gradient[:, :, :, child] == child + 1).all() and (
            gradient[:, :, :, other] == -child - 1
        ).all()


def test_names_are_not_registered_twice():
    register_layout(NTU_RGBD)
    with pytest.raises(ValueError, match="registered already"):
        register_layout(replace(NTU_RGBD, torso=(0, 4, 8)))
    with pytest.raises(ValueError, match=r"kinect-v1.*found 'kinect'"):
        get_layout("kinect")


STICK = Layout("stick", ("hip", "head", "right hand", "left hand"), parents=(-1, 0, 1, 1))


@pytest.mark.parametrize("impl", ["reference", pytest.param("fused", marks=needs_kernel)])
def test_a_layout_without_a_torso_has_the_other_modalities(impl):
    x = torch.randn(2, 3, 5, 4, 1, requires_grad=True)
    names = ("joint", "motion", "bone", "acceleration")
    derived = derive_modalities(x, modalities=names, layout=STICK, impl=impl)
    with_torso = derive_modalities(x, modalities=names, layout=replace(STICK, torso=(0, 2, 3)), impl=impl)
    assert not derived[2][:, :, :, 0].any(), "the root's bone"
    torch.testing.assert_close(derived[:, :, :, :, 1:], with_torso[:, :, :, :, 1:], rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(derived.square().sum(), x)
    assert torch.isfinite(gradient).all() and gradient.any()
    for name in ("rotation_axis", "angular_velocity"):
        with pytest.raises(InputError, match=f"a torso for {name}, found 'stick' without; add torso"):
            derive_modalities(x, modalities=("joint", name), layout=STICK, impl=impl)


def test_models_say_at_once_that_a_torso_is_missing():
    with pytest.raises(InputError, match="a torso for rotation_axis and angular_velocity"):
        IKEM(queue_size=4, layout=STICK, hidden_channels=2, hidden_dim=4, feature_dim=2)
    IKEM(queue_size=4, layout=STICK, modalities=("bone",), hidden_channels=2, hidden_dim=4, feature_dim=2)


def test_what_needs_shoulders_or_sides_says_so():
    with pytest.raises(ValueError, match="shoulders to turn clips by, found 'stick' without"):
        preprocess_clips(torch.randn(3, 5, 4, 1), torch.tensor([5]), layout=STICK)
    with pytest.raises(ValueError, match="'stick' does not say which joints are left and right"):
        augment.flip(torch.randn(1, 3, 5, 4, 1), torch.tensor([True]), STICK)
    assert STICK.parts() == ((0,), (1, 2, 3))


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        (("hip", "head", "hand", "hand"), "joints must differ, found 'hand' for 2 and 3"),
        (("hip", "", "a", "b"), "the name of joint 1 must be a printable text"),
        (("hip", "\x1b[2J", "a", "b"), r"the name of joint 1 .* found '\\x1b\[2J'"),
        (("hip", 7, "a", "b"), "the name of joint 1 .* found 7"),
        ((), "joints must hold 1 … 1024 names, found 0"),
    ],
)
def test_names_of_joints(joints, message):
    with pytest.raises(ValueError, match=message):
        replace(STICK, joints=joints)


LAYOUTS = layout_names()  # without those that other tests register


@pytest.mark.parametrize("name", LAYOUTS)
def test_where_joints_are_in_another_layout(name):
    for other in LAYOUTS:
        weights = joint_weights(name, other)
        assert weights.shape == (get_layout(other).num_joints, get_layout(name).num_joints)
        np.testing.assert_allclose(weights.sum(1), 1)
        sides = {v: mirrored_name(joint) for v, joint in enumerate(get_layout(name).joints)}
        swap, mirror = get_layout(name).swap, get_layout(other).swap
        assert all(get_layout(name).joints[swap[v]] == joint for v, joint in sides.items())
        np.testing.assert_array_equal(weights[list(mirror)][:, list(swap)], weights, f"{name} → {other}")
