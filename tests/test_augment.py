"""Augmentations: each against a transcription for one clip, and the drawing of parameters."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast import augment
from ikem_fast.ops import derive_modalities
from ikem_fast.skeleton import Layout, get_layout, layout_names

N, T, V, M = 4, 12, 25, 2


@pytest.fixture
def x():
    return torch.randn(N, 3, T, V, M)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shear_multiplies_every_joint_by_its_clip_s_matrix(x):
    matrix = torch.randn(N, 3, 3)
    want = np.stack([np.tensordot(m, c, 1) for m, c in zip(matrix.numpy(), x.numpy(), strict=True)])
    np.testing.assert_allclose(augment.shear(x, matrix), want, rtol=1e-5, atol=1e-5)


def test_shear_keeps_its_precision_under_autocast(x):
    matrix = augment.draw_shear(N)
    want = augment.shear(x, matrix)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment.shear(x, matrix), want)


@pytest.mark.parametrize(("axis", "start", "end"), [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_rotation_by_a_right_angle_follows_the_right_hand(axis, start, end):
    x = torch.zeros(1, 3, 1, 1, 1)
    x[:, start] = 1
    angles = torch.zeros(1, 3)
    angles[0, axis] = math.pi / 2
    want = torch.zeros_like(x)
    want[:, end] = 1
    torch.testing.assert_close(augment.rotate(x, angles), want, atol=1e-6, rtol=0)


def test_rotation_turns_about_x_then_y_then_z_and_keeps_lengths(x):
    angles = torch.randn(N, 3)
    one_by_one = x
    for axis in range(3):
        one_by_one = augment.rotate(one_by_one, angles * torch.eye(3)[axis])
    torch.testing.assert_close(augment.rotate(x, angles), one_by_one, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(augment.rotate(x, angles).norm(dim=1), x.norm(dim=1), rtol=1e-4, atol=1e-5)


def test_matrices_chain_into_the_derivation(x):
    """Rotation after shear is one matrix, and costs the derivation nothing."""
    shear, angles = augment.draw_shear(N), augment.draw_rotation(N)
    both = augment.rotation_matrix(angles) @ shear
    want = augment.rotate(augment.shear(x, shear), angles)
    (got,) = derive_modalities(x, modalities=("joint",), shear=both)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_scale_by_one_factor_or_three(x):
    factor = torch.rand(N, 3)
    assert torch.equal(augment.scale(x, factor)[2, 1], x[2, 1] * factor[2, 1])
    assert torch.equal(augment.scale(x, factor[:, 0])[2], x[2] * factor[2, 0])


@pytest.mark.parametrize("layout", layout_names())
def test_flip_mirrors_the_chosen_clips(layout):
    layout = get_layout(layout)
    x = torch.randn(N, 3, T, layout.num_joints, M)
    flipped = augment.flip(x, torch.tensor([True, False, True, False]), layout)
    assert torch.equal(flipped[1::2], x[1::2])
    for v, pair in enumerate(layout.swap):
        assert torch.equal(flipped[0, 0, :, v], -x[0, 0, :, pair])
        assert torch.equal(flipped[0, 1:, :, v], x[0, 1:, :, pair])
    assert torch.equal(augment.flip(flipped, torch.tensor([True, False, True, False]), layout), x)


def test_flip_of_a_layout_without_sides_says_so():
    blob = Layout("blob", ("a", "b", "c"), (0, 0, 1), torso=(0, 1, 2), shoulders=(0, 1))
    with pytest.raises(ValueError, match=r"'blob'.*left and right"):
        augment.flip(torch.zeros(1, 3, 2, 3, 1), torch.tensor([True]), blob)


def test_noise_leaves_empty_bodies_empty(x):
    x[1, ..., 1] = 0
    x[2, :, :, 3] = 0  # a joint at the origin is not an empty body
    noise = torch.randn_like(x)
    noisy = augment.add_noise(x, noise)
    assert not noisy[1, ..., 1].any()
    noisy[1, ..., 1] = noise[1, ..., 1]
    torch.testing.assert_close(noisy - x, noise)


def test_masks_set_what_they_name_to_zero_and_nothing_else(x):
    for mask, dim, size in (
        (augment.mask_axes, 1, 3),
        (augment.mask_frames, 2, T),
        (augment.mask_joints, 3, V),
    ):
        masked = torch.rand(N, size) < 0.5
        out = mask(x, masked)
        for n in range(N):
            for k in range(size):
                got, was = out[n].select(dim - 1, k), x[n].select(dim - 1, k)
                assert torch.equal(got, torch.zeros_like(was) if masked[n, k] else was)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.data())
def test_temporal_crop_is_a_window_of_the_padded_clip(frames, data):
    padding = data.draw(st.integers(0, frames))
    start = data.draw(st.integers(0, 2 * padding))
    x = torch.randn(2, 3, frames, 4, 1)
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (padding, padding), (0, 0), (0, 0)], mode="symmetric")
    got = augment.temporal_crop(x, torch.tensor([start, padding]), padding)
    np.testing.assert_array_equal(got[0], padded[0, :, start : start + frames])
    assert torch.equal(got[1], x[1])


def test_crop_resize_interpolates_as_an_image_resize_does(x):
    start, length = torch.tensor([0, 2, 5, 11]), torch.tensor([12, 6, 3, 1])
    got = augment.crop_resize(x, start, length)
    assert torch.equal(got[0], x[0])
    for n in range(N):
        window = x[n, :, start[n] : start[n] + length[n]].flatten(2).transpose(1, 2)
        want = torch.nn.functional.interpolate(window, T, mode="linear", align_corners=False)
        torch.testing.assert_close(got[n].flatten(2), want.transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_crop_resize_past_an_end_holds_its_frame(x):
    start, length = torch.tensor([-3.0, 6.0, 30.0, -20.0]), torch.tensor([6.0, 12.0, 3.0, 9.0])
    got = augment.crop_resize(x, start, length)
    assert torch.equal(got[0, :, :6], x[0, :, :1].expand(-1, 6, -1, -1)), "half the window lies before"
    assert torch.equal(got[1], x[1, :, [6, 7, 8, 9, 10, *[11] * 7]])
    assert torch.equal(got[2], x[2, :, -1:].expand_as(x[2]))
    assert torch.equal(got[3], x[3, :, :1].expand_as(x[3]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.floats(0, 1), st.floats(0, 1))
def test_crop_resize_of_any_window(frames, size, place):
    """A frame at a time, in NumPy; windows may start and end between frames."""
    length = max(1.0, size * frames)
    start = place * (frames - length)
    x = torch.randn(1, 3, frames, 4, 2)
    got = augment.crop_resize(x, torch.tensor([start]), torch.tensor([length]))[0].numpy()
    for t in range(frames):
        at = start + min(max((t + 0.5) * length / frames - 0.5, 0), length - 1)
        before = min(int(at), frames - 1)
        after = min(before + 1, frames - 1)
        clip = x[0].numpy()
        want = clip[:, before] * (1 - (at - before)) + clip[:, after] * (at - before)
        np.testing.assert_allclose(got[:, t], want, atol=1e-4)  # 40 frames by float32, and steep ones


def test_reversal_plays_the_chosen_clips_backwards(x):
    got = augment.reverse_time(x, torch.tensor([True, False, False, True]))
    assert torch.equal(got[1:3], x[1:3]) and torch.equal(got[::3], x[::3].flip(2))


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_blur_is_a_gaussian_over_the_mirrored_clip(frames):
    x, sigma = torch.randn(3, 3, frames, 4, 2), torch.tensor([0.0, 0.7, 2.0])
    got = augment.blur(x, sigma)
    assert torch.equal(got[0], x[0])
    for n in (1, 2):
        kernel = np.exp(-0.5 * (np.arange(-7, 8) / sigma[n].item()) ** 2)
        padded = np.pad(x[n].numpy(), [(0, 0), (7, 7), (0, 0), (0, 0)], mode="symmetric")
        want = sum(w * padded[:, k : k + frames] for k, w in enumerate(kernel / kernel.sum()))
        np.testing.assert_allclose(got[n], want, rtol=1e-5, atol=1e-6)


def test_drawn_shear_and_crop_start_cover_their_range():
    matrix = augment.draw_shear(4000, 0.3, generator=generator())
    off = matrix[:, ~torch.eye(3, dtype=torch.bool)]
    assert torch.equal(matrix.diagonal(dim1=1, dim2=2), torch.ones(4000, 3))
    assert -0.3 <= off.min() < -0.29 and 0.29 < off.max() <= 0.3 and abs(off.mean()) < 0.01
    start = augment.draw_crop_start(4000, 50, generator=generator())
    assert start.dtype == torch.int64 and start.unique().tolist() == list(range(17))
    assert not augment.draw_crop_start(9, 5).any()


def test_drawn_rotation_turns_one_axis():
    angles = augment.draw_rotation(2000, 0.5, generator=generator())
    assert (angles != 0).sum(1).max() == 1 and (angles != 0).any(0).all()
    assert angles.abs().max() <= 0.5 and angles.min() < -0.45 and angles.max() > 0.45


def test_chosen_rows_have_the_count_asked_for():
    chosen = augment.draw_chosen(500, 10, 3, generator=generator())
    assert (chosen.sum(1) == 3).all() and chosen.sum(0).min() > 100


@pytest.mark.parametrize("layout", layout_names())
def test_limbs_are_joints_with_all_that_hangs_on_them(layout):
    layout = get_layout(layout)
    limbs = augment.draw_limb(300, layout, generator=generator())
    assert not limbs[:, layout.root].any() and limbs.any(1).all()
    for limb in limbs:
        tops = [v for v in limb.nonzero() if not limb[layout.parents[v]]]
        assert len(tops) == 1
        assert all(limb[v] for v, parent in enumerate(layout.parents) if limb[parent] and v != parent)


STEPS = [
    augment.random_shear, augment.random_rotation, augment.random_scale, augment.random_flip,
    augment.random_noise, augment.random_axis_mask, augment.random_joint_mask, augment.random_limb_mask,
    augment.random_temporal_crop, augment.random_crop_resize, augment.random_time_reversal,
    augment.random_blur, augment.random_frame_mask,
]  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_step_repeats_with_its_generator_and_differs_without(step, dtype):
    x = torch.randn(64, 3, T, V, M).to(dtype)
    before = x.clone()
    once, again, other = step(x, generator(1)), step(x, generator(1)), step(x, generator(2))
    assert once.shape == x.shape and once.dtype == dtype and torch.isfinite(once).all()
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert torch.equal(x, before), "the clips themselves are left alone"
    assert step(x[:0], generator()).shape == (0, 3, T, V, M)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_every_step_lets_gradients_through(step):
    x = torch.randn(8, 3, T, V, M, requires_grad=True)
    step(x, generator()).square().sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.any()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
@pytest.mark.parametrize("shape", [(3, T, V, M), (N, 2, T, V, M), (N, T, V, M, 3), (T, V, 3), ()])
def test_every_step_refuses_what_are_no_clips(step, shape):
    hint = r"; for a single clip, give x\[None\]" if len(shape) == 4 else "$"
    with pytest.raises(ValueError, match=r"x: expected clips \(N,3,T,V,M\), found shape \(.*\)" + hint):
        step(torch.zeros(shape))


flag = torch.zeros(N, dtype=torch.bool)
PARAMETERS = {
    "matrix": (augment.shear, torch.zeros(N, 3), r"\(4, 3, 3\), found \(4, 3\)"),
    "angles": (augment.rotate, torch.zeros(3), r"\(4, 3\), found \(3,\)"),
    "factor": (augment.scale, torch.zeros(N, 2), r"\(4,\) or \(4, 3\), found \(4, 2\)"),
    "flipped": (augment.flip, flag[:3], r"\(4,\), found \(3,\)"),
    "flipped ": (augment.flip, flag.int(), r"torch.bool, found torch.int32"),
    "noise": (
        augment.add_noise,
        torch.zeros(N, 3, T, V, 1),
        r"25, 2\), found \(4, 3, 12, 25, 1\)",
    ),
    "masked": (augment.mask_axes, torch.zeros(N, 4).bool(), r"\(4, 3\), found \(4, 4\)"),
    "masked ": (
        augment.mask_joints,
        torch.zeros(N, T).bool(),
        r"\(4, 25\) or \(4, 12, 25\), found \(4, 12\)",
    ),
    "masked  ": (augment.mask_frames, torch.zeros(N, T), "torch.bool, found torch.float32"),
    "reversed_": (augment.reverse_time, flag[:1], r"\(4,\), found \(1,\)"),
    "sigma": (augment.blur, torch.zeros(N, 1), r"\(4,\), found \(4, 1\)"),
    "start": (lambda x, start: augment.temporal_crop(x, start, 2), torch.zeros(3), r"\(4,\), found \(3,\)"),
    "padding": (lambda x, start: augment.temporal_crop(x, start, 13), torch.zeros(N), "0 … 12, .* found 13"),
    "start ": (lambda x, start: augment.crop_resize(x, start, torch.ones(N)), torch.zeros(()), "found"),
    "length": (lambda x, length: augment.crop_resize(x, torch.ones(N), length), torch.zeros(3), "found"),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_of_other_shapes_are_named(x, name):
    augmentation, value, message = PARAMETERS[name]
    with pytest.raises(ValueError, match=rf"^{name.strip()}: expected .*{message}"):
        augmentation(x, value)


def test_numbers_of_joints_and_counts_are_named(x):
    with pytest.raises(ValueError, match="x: expected 20 joints for 'kinect-v1', found 25"):
        augment.flip(x, flag, "kinect-v1")
    with pytest.raises(ValueError, match="count: expected 0 … 12, found 13"):
        augment.random_frame_mask(x, count=13)
    with pytest.raises(ValueError, match=r"angles: expected shape \(N, 3\), found \(3,\)"):
        augment.rotation_matrix(torch.zeros(3))


def test_compose_applies_in_order_each_to_its_share_of_clips():
    x = torch.ones(4000, 3, 2, 3, 1)
    double, increment = (lambda x, generator: 2 * x), (lambda x, generator: x + 1)
    recipe = augment.Compose(double, (increment, 0.25), (double, 0.0))
    out = recipe(x, generator())
    assert torch.equal(out, recipe(x, generator()))
    per_clip = out.flatten(1)
    assert torch.equal(per_clip, per_clip[:, :1].expand_as(per_clip))
    assert set(per_clip[:, 0].tolist()) == {2.0, 3.0}
    assert 0.22 < (per_clip[:, 0] == 3).float().mean() < 0.28


def test_a_whole_recipe_runs():
    recipe = augment.Compose(*((step, 0.5) for step in STEPS), partial(augment.random_noise, std=0.1))
    x = torch.randn(16, 3, T, V, M)
    assert torch.isfinite(recipe(x, generator())).all()
    assert recipe(x).shape == x.shape, "without a generator it draws from torch's own"


@pytest.mark.parametrize("step", [("shear", 0.5), (augment.random_shear, 1.5), "shear"])
def test_compose_refuses_what_is_no_step(step):
    with pytest.raises(ValueError, match=r"steps: .*found"):
        augment.Compose(step)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_cpu_generator_gives_a_gpu_the_same_views(step):
    x = torch.randn(8, 3, T, V, M)
    on_gpu = step(x.cuda(), generator()).cpu()
    torch.testing.assert_close(on_gpu, step(x, generator()), rtol=1e-5, atol=1e-5)


def test_a_flip_may_keep_its_coordinates(x):
    """As AimCLR flips: joints change places, and no sign."""
    swap = list(get_layout("ntu-rgb+d").swap)
    flipped = augment.flip(x, torch.tensor([True, False, True, False]), negate=False)
    assert torch.equal(flipped[::2], x[::2][:, :, :, swap]) and torch.equal(flipped[1::2], x[1::2])


def test_noise_may_fill_empty_bodies(x):
    x[1, ..., 1] = 0
    noise = torch.randn_like(x)
    assert torch.equal(augment.add_noise(x, noise, empty=True), x + noise)


def test_joints_may_be_masked_frame_by_frame(x):
    masked = torch.rand(N, T, V) < 0.3
    want = torch.where(masked[:, None, :, :, None], 0, x)
    assert torch.equal(augment.mask_joints(x, masked), want)
    out = augment.random_joint_mask(x, generator(), count=4, per_frame=True)
    assert (out == 0).all((1, 4)).sum(2).unique().tolist() == [4]


@pytest.mark.parametrize("frames", [5, 12, 31])
def test_a_window_may_be_stretched_to_other_frames(x, frames):
    """As torch resizes the window alone."""
    start, length = torch.tensor([0, 2, 5, 3]), torch.tensor([12, 6, 7, 1])
    out = augment.crop_resize(x, start, length, frames)
    for n in range(N):
        window = x[n, :, start[n] : start[n] + length[n]].permute(0, 2, 3, 1).flatten(1, 2)
        want = torch.nn.functional.interpolate(window, frames, mode="linear", align_corners=False)
        torch.testing.assert_close(out[n], want.view(3, V, M, frames).permute(0, 3, 1, 2))
    assert augment.random_crop_resize(x, generator(), frames=frames).shape == (N, 3, frames, V, M)
    with pytest.raises(ValueError, match="frames: expected at least 1, found 0"):
        augment.crop_resize(x, start, length, 0)


def test_a_blur_may_be_that_of_aimclr(x):
    """Weights that are not normalized, and zeros beyond the ends."""
    sigma = torch.tensor([0.1, 0.7, 1.3, 2.0])
    out = augment.blur(x, sigma, normalize=False, ends="zero")
    reach = augment.BLUR_TAPS // 2
    for n in range(N):
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma[n].item()) ** 2)
        want = np.apply_along_axis(lambda row, k=kernel: np.convolve(row, k, "full")[reach:-reach], 1, x[n])
        np.testing.assert_allclose(out[n], want, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="ends: expected 'mirrored' or 'zero', found 'wrapped'"):
        augment.blur(x, sigma, ends="wrapped")
