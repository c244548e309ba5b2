"""Augmentations by name: each of the table on clips of one shape, recipes of them, and what is refused."""

import pytest
import torch

from ikem_fast import augment, ops
from ikem_fast.augment import AUGMENTATIONS, Recipe, Shape, named
from ikem_fast.augment.named import completed
from ikem_fast.augment.recipes import cut
from ikem_fast.errors import InputError
from ikem_fast.skeleton import get_layout

N, T, M = 6, 12, 2
LAYOUT = get_layout("ntu-rgb+d")
SHAPE = Shape(T, M, LAYOUT)


@pytest.fixture
def x():
    clips = torch.randn(N, 3, T, LAYOUT.num_joints, M)
    clips[::2, ..., 1] = 0  # no second body
    clips[:, :, :, 7] = 0  # a joint that this body does not have
    return clips


def recipe(*entries):
    return Recipe(named(entries), SHAPE)


def derived(x, rest):
    return ops.derive_modalities(x, modalities=("joint",), impl="reference", **rest)[0]


def augmented(one, x, seed=0, n=N):
    return derived(*one.apply(x, one.draw(n, torch.Generator().manual_seed(seed))))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_each_changes_clips_and_leaves_what_is_absent_absent(name, x):
    before = x.clone()
    one = recipe({"name": name})
    y = augmented(one, x)
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all() and not torch.equal(y, x)
    assert torch.equal(x, before), "in place"
    assert torch.equal(augmented(one, x), y) and not torch.equal(augmented(one, x, seed=1), y)
    if name != "flip":  # which exchanges joint 7 and its pair
        assert not y[:, :, :, 7].any()
    assert not y[::2, ..., 1].any()


@pytest.mark.parametrize("name", ["shear", "rotation", "scale", "noise", "bone_lengths", "joint_offset"])
def test_scores_of_poses_in_a_plane_stay(name, x):
    flat = Recipe(named([{"name": name}]), Shape(T, M, LAYOUT, planar=True))
    y = augmented(flat, x)
    torch.testing.assert_close(y[:, 2], x[:, 2], rtol=0, atol=1e-6)
    assert (y[:, :2] - x[:, :2]).abs().max() > 1e-3
    if name != "joint_offset":  # which moves by the size of a clip, of which a score is a part
        without = torch.cat((x[:, :2], torch.zeros_like(x[:, 2:])), 1)
        torch.testing.assert_close(augmented(flat, without)[:, :2], y[:, :2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_probability_is_of_each_clip_and_a_share_of_a_batch_is_cut_from_the_whole(name, x):
    none, some = recipe({"name": name, "probability": 0.0}), recipe({"name": name, "probability": 0.5})
    torch.testing.assert_close(augmented(none, x), x, rtol=0, atol=0)
    drawn = some.draw(N, torch.Generator().manual_seed(0))
    whole = derived(*some.apply(x, drawn))
    kept = [torch.equal(a, b) for a, b in zip(whole, x, strict=True)]
    assert any(kept) and not all(kept)
    parts = [derived(*some.apply(x[part], cut(drawn, part))) for part in (slice(0, 4), slice(4, 6))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-6)


def test_matrices_and_the_crop_are_handed_on_and_come_last(x):
    one = recipe({"name": "rotation"}, {"name": "crop"}, {"name": "shear"}, {"name": "scale"})
    drawn = one.draw(N, torch.Generator().manual_seed(0))
    clips, rest = one.apply(x, drawn)
    assert clips is x and sorted(rest) == ["crop_start", "shear"]
    expected = x
    for kind, (_, values) in zip(one.augmentations, drawn, strict=True):
        expected = kind.apply(expected, values, LAYOUT)
    torch.testing.assert_close(derived(clips, rest), expected, rtol=1e-4, atol=1e-5)


def test_shear_and_crop_alone_are_as_published(x):
    one = recipe({"name": "shear", "amplitude": 0.3}, {"name": "crop"})
    clips, rest = one.apply(x, one.draw(N, torch.Generator().manual_seed(4)))
    source = torch.Generator().manual_seed(4)
    assert clips is x
    assert torch.equal(rest["shear"], augment.draw_shear(N, 0.3, generator=source))
    assert torch.equal(rest["crop_start"], augment.draw_crop_start(N, T, generator=source))


@pytest.mark.parametrize("planar", [False, True])
def test_two_people_take_each_others_places(planar, x):
    x[1, ..., 1] = x[1, ..., 0] + 1  # who stands beside the first
    x[3, :, :, LAYOUT.root, 1] = x[3, :, :, LAYOUT.root, 0]  # centered one by one
    swap = Recipe(named([{"name": "swap_bodies", "probability": 1.0}]), Shape(T, M, LAYOUT, planar=planar))
    y = augmented(swap, x)
    assert torch.equal(y[::2], x[::2]), "nobody to change places with"
    torch.testing.assert_close(augmented(swap, y), x, rtol=0, atol=1e-5)
    torch.testing.assert_close(y[3], x[3].flip(-1))
    sign = torch.tensor([-1.0, 1.0, 1.0 if planar else -1.0])[:, None, None, None]
    at = x[1, :, 0, LAYOUT.root].mean(-1)[:, None, None, None]
    wanted = torch.where(x[1] == 0, 0, at + sign * (x[1] - at)).flip(-1)
    torch.testing.assert_close(y[1], wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(y[1, :, 0, LAYOUT.root].mean(-1), x[1, :, 0, LAYOUT.root].mean(-1))


def test_nothing_is_drawn_for_what_leaves_clips_as_they_are(x):
    entries = [{"name": "swap_bodies"}, {"name": "noise"}]
    alone = Shape(T, 1, LAYOUT)
    with_it, without = (Recipe(named(some), alone) for some in (entries, entries[1:]))
    assert torch.equal(augmented(with_it, x[..., :1]), augmented(without, x[..., :1]))
    assert len(recipe(*entries).augmentations) == 2


def test_who_comes_late_changes_places_too(x):
    x[1, :, :5, :, 1] = 0
    swap = recipe({"name": "swap_bodies", "probability": 1.0})
    y = augmented(swap, x)
    assert not y[1, :, :5, :, 0].any() and y[1, :, 5:, 0, 0].all()
    torch.testing.assert_close(y[1, :, 5, LAYOUT.root].mean(-1), x[1, :, 5, LAYOUT.root].mean(-1))


def test_settings_are_written_out():
    assert completed([{"name": "crop"}, {"name": "scale", "low": 0.5}]) == (
        {"name": "crop", "probability": 1.0},
        {"name": "scale", "probability": 1.0, "low": 0.5, "high": 1.2},
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [{"name": "joint_mask", "count": 26}],
            "number 1: joint_mask: expected a count of at most 25 joints",
        ),
        (
            [{"name": "frame_mask", "count": 13}],
            "number 1: frame_mask: expected a count of at most 12 frames",
        ),
        ([{"name": "crop"}, {"name": "crop"}], "expected crop at most once"),
        ([{"name": "crop", "probability": 2}], "number 1: crop: probability: expected a number ≥ 0 and ≤ 1"),
        ([{"name": "scale", "low": 2, "high": 1}], "number 1: scale: low: expected at most high, which is 1"),
        ([{"amplitude": 1}], "number 1: expected settings with a name out of shear, crop"),
        (["shear"], "number 1: expected settings with a name"),
        ([{"name": ["shear"]}], "number 1: expected settings with a name"),
        ([{"name": "shear", "limit": 1}], "shear has the settings probability, amplitude, found 'limit'"),
    ],
)
def test_what_cannot_be_is_refused_by_name(entries, message):
    with pytest.raises(InputError, match=message):
        recipe(*entries)


def test_sides_are_asked_for():
    from dataclasses import replace

    shape = Shape(T, M, replace(LAYOUT, name="sideless", swap=None))
    with pytest.raises(InputError, match="number 1: flip: expected a layout with left and right, found"):
        Recipe(named([{"name": "flip"}]), shape)


def test_a_longer_bone_moves_what_hangs_on_it_and_no_other_bone_changes(x):
    x = x.clone()
    x[:, :, :, 7] = 0.1  # every joint is there
    factor = torch.ones(N, LAYOUT.num_joints)
    factor[:, 5] = 2.0  # the left elbow's: wrist, hand and fingers move along
    y = augment.stretch_bones(x, factor, LAYOUT)
    parents = [v if parent == -1 else parent for v, parent in enumerate(LAYOUT.parents)]
    expected = x - x[:, :, :, parents]
    expected[:, :, :, 5] *= 2
    torch.testing.assert_close(y - y[:, :, :, parents], expected, rtol=0, atol=1e-5)
    moved = (y != x).flatten(0, 2).any(-1).any(0).nonzero().flatten().tolist()
    assert moved == [5, 6, 7, 21, 22]
    torch.testing.assert_close(y[:, :, :, list(LAYOUT.roots)], x[:, :, :, list(LAYOUT.roots)])


def test_an_offset_is_constant_in_time_and_measured_by_the_size_of_the_clip(x):
    offset = torch.randn(N, 3, LAYOUT.num_joints)
    y = augment.offset_joints(x, offset)
    there = x.flatten(1, 2).abs().amax(1)[:, None, None].expand_as(x) > 0
    size = torch.stack([clip[mask].square().mean().sqrt() for clip, mask in zip(x, there, strict=True)])
    expected = (offset * size[:, None, None])[:, :, None, :, None].expand_as(x)
    torch.testing.assert_close((y - x)[there], expected[there], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(augment.offset_joints(1000 * x, offset), 1000 * y, rtol=1e-4, atol=1e-2)


def test_a_warp_keeps_the_ends_and_the_order_of_frames():
    frames = torch.arange(50.0).view(1, 1, 50, 1, 1).expand(3, 3, 50, 2, 1)
    curve = torch.tensor([[0.0, 0.0], [0.6, 0.4], [-0.5, 0.5]])
    y = augment.warp_time(frames, curve)
    torch.testing.assert_close(y[0], frames[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(y[:, :, [0, -1]], frames[:, :, [0, -1]], rtol=0, atol=1e-4)
    assert (y.diff(dim=2) >= -1e-5).all() and (y[1:] - frames[1:]).abs().amax() > 5


def test_a_rotation_about_all_axes_turns_about_all():
    one = recipe({"name": "rotation", "axes": "all", "limit": 0.3})
    (_, (matrix,)) = one.draw(64, torch.Generator().manual_seed(0))[0]
    torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3).expand(64, 3, 3), rtol=0, atol=1e-5)
    off_diagonal = matrix[:, [0, 0, 1], [1, 2, 2]].abs()
    assert (off_diagonal > 0).all() and 0.1 < off_diagonal.max() < 0.7
