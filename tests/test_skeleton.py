"""Joint layouts and the graph made of them."""

from dataclasses import replace

import numpy as np
import pytest

from ikem_fast.skeleton import NTU_RGBD, get_layout, layout_names, register_layout


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
        ({"parents": NTU_RGBD.parents[:-1]}, "25 parents"),
        ({"parents": (*NTU_RGBD.parents[:-1], 24)}, "roots"),
        ({"torso": (1, 4, 25)}, "torso"),
        ({"swap": (1, 2, 0, *NTU_RGBD.swap[3:])}, "inverse"),
        ({"edges": ((0, 99),)}, "edges"),
    ],
)
def test_layout_errors_name_the_table(change, message):
    with pytest.raises(ValueError, match=message):
        replace(NTU_RGBD, **change)


def test_names_are_not_registered_twice():
    register_layout(NTU_RGBD)
    with pytest.raises(ValueError, match="registered already"):
        register_layout(replace(NTU_RGBD, torso=(0, 4, 8)))
    with pytest.raises(ValueError, match=r"kinect-v1.*found 'kinect'"):
        get_layout("kinect")
