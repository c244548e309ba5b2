"""derive_modalities: a transcription of the formulas, the compiled kernel, edges, gradients, errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast import augment
from ikem_fast.ops import derive_modalities
from ikem_fast.skeleton import MODALITIES, get_layout, layout_names
from tests.helpers import needs_kernel

IMPLEMENTATIONS = ["reference", pytest.param("fused", marks=needs_kernel)]


def clips(N=3, T=7, layout="ntu-rgb+d", M=2, *, dtype=torch.float32):
    return torch.randn(N, 3, T, get_layout(layout).num_joints, M, dtype=dtype)


def transcription(x, frames, layout):
    """docs/method.md, one joint and frame at a time, in float64. x: (3,T,V,M) numpy; frames: a number."""
    _, T, V, M = x.shape
    s = T / frames
    a, b, c = layout.torso
    out = {name: np.zeros((3, T, V, M)) for name in MODALITIES}
    theta = np.zeros((T, V, M))
    norm = lambda v: math.sqrt(v @ v)  # noqa: E731
    unit = lambda v: v / max(norm(v), 1e-12)  # noqa: E731
    for m in range(M):
        for t in range(T):
            p = x[:, t, :, m]
            bone = {v: p[:, v] - p[:, layout.parents[v]] for v in range(V)}
            bone[layout.root] = unit(np.cross(p[:, a] - p[:, c], p[:, b] - p[:, c]))
            for v in range(V):
                w = bone[layout.axis_parents[v]]
                out["joint"][:, t, v, m] = p[:, v]
                out["bone"][:, t, v, m] = bone[v]
                out["rotation_axis"][:, t, v, m] = np.cross(bone[v], w)
                theta[t, v, m] = math.atan2(norm(np.cross(unit(bone[v]), unit(w))), unit(bone[v]) @ unit(w))
                if t + 1 < T:
                    out["motion"][:, t, v, m] = s * (x[:, t + 1, v, m] - p[:, v])
                if t + 2 < T:
                    second = x[:, t + 2, v, m] - 2 * x[:, t + 1, v, m] + p[:, v]
                    out["acceleration"][:, t, v, m] = s * s * second
        for t in range(T - 1):
            for v in range(V):
                axis = unit(out["rotation_axis"][:, t, v, m])
                out["angular_velocity"][:, t, v, m] = s * (theta[t + 1, v, m] - theta[t, v, m]) * axis
    return np.stack([out[name] for name in MODALITIES])


def assert_same(fused, reference, frames=None):
    """Equal to 1e-6 of the largest magnitude; of the largest turn of one radian for an angular velocity."""
    speed = 1 if frames is None or not len(frames) else reference.shape[3] / frames.min().item()
    assert fused.shape == reference.shape and fused.dtype == reference.dtype
    assert torch.isfinite(fused).all()
    if not reference.numel():
        return
    for name, got, want in zip(MODALITIES, fused, reference, strict=True):
        scale = want.abs().max().item()
        if name == "angular_velocity":
            scale = max(scale, speed)
        assert (got - want).abs().max().item() <= 1e-6 * scale, name


@pytest.mark.parametrize("layout", layout_names())
def test_reference_is_the_transcribed_method(layout):
    x, frames = clips(2, 5, layout, dtype=torch.float64), torch.tensor([31, 5])
    x[1, ..., 1] = 0
    got = derive_modalities(x, frames, layout=layout, impl="reference")
    for n in range(2):
        want = transcription(x[n].numpy(), frames[n].item(), get_layout(layout))
        np.testing.assert_allclose(got[:, n].numpy(), want, rtol=1e-9, atol=1e-9)


@needs_kernel
@pytest.mark.parametrize("layout", layout_names())
def test_kernel_is_the_reference_for_every_layout(layout):
    x, frames = clips(5, 50, layout), torch.randint(1, 300, (5,))
    call = lambda impl: derive_modalities(  # noqa: E731
        x, frames, layout=layout, shear=shear, crop_start=start, impl=impl
    )
    shear, start = None, None
    assert_same(call("fused"), call("reference"), frames)
    shear, start = augment.draw_shear(5), augment.draw_crop_start(5, 50)
    assert_same(call("fused"), call("reference"), frames)


@needs_kernel
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_kernel_is_the_reference_for_any_clip(data):
    draw = data.draw
    N, T, M = draw(st.integers(0, 4)), draw(st.integers(1, 70)), draw(st.integers(1, 4))
    layout = draw(st.sampled_from(layout_names()))
    torch.manual_seed(draw(st.integers(0, 2**20)))
    x = clips(N, T, layout, M) * 10.0 ** draw(st.integers(-3, 4))
    x *= torch.rand(N, 1, 1, 1, M) > draw(st.sampled_from([0, 0.5]))  # empty bodies
    x[..., torch.rand(x.shape[3]) < draw(st.sampled_from([0, 0.3])), :] = 0  # zero bones
    frames = torch.randint(1, 200, (N,)) if draw(st.booleans()) else None
    if frames is not None and draw(st.booleans()):
        frames = frames.to(draw(st.sampled_from([torch.float32, torch.int32])))
    options = {
        "layout": layout,
        "shear": augment.draw_shear(N) if draw(st.booleans()) else None,
        "crop_start": augment.draw_crop_start(N, T) if draw(st.booleans()) else None,
    }
    fused = derive_modalities(x, frames, **options, impl="fused")
    assert_same(fused, derive_modalities(x, frames, **options, impl="reference"), frames)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
@pytest.mark.parametrize("T", [1, 2, 3])
def test_short_clips_end_in_zeros(impl, T):
    out = derive_modalities(clips(2, T), torch.tensor([1, 2]), impl=impl)
    named = dict(zip(MODALITIES, out, strict=True))
    assert named["bone"].any() and named["rotation_axis"].any()
    for name, zeros in (("motion", 1), ("angular_velocity", 1), ("acceleration", 2)):
        assert not named[name][:, :, max(T - zeros, 0) :].any(), name
    if T == 3:
        assert all(named[name][:, :, 0].any() for name in ("motion", "acceleration", "angular_velocity"))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_empty_bodies_and_zero_bones_stay_zero(impl):
    x = clips()
    x[..., 1] = 0
    x[:, :, :, 21] = x[:, :, :, 7]  # its parent: a bone without length
    out = derive_modalities(x, torch.tensor([1, 10, 100]), impl=impl)
    assert torch.isfinite(out).all()
    assert not out[..., 1].any()
    assert not out[2:6:2, :, :, :, 21].any()  # bone, rotation axis
    assert not out[5, :, :, :, 21].any()  # no direction to turn in


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_a_bone_does_not_turn_about_itself(impl):
    """The root's axis parent is the root: its axis is b × b, which must not be rounding noise."""
    x = clips(4, 20)
    axis, velocity = derive_modalities(x, modalities=("rotation_axis", "angular_velocity"), impl=impl)
    root = get_layout("ntu-rgb+d").root
    assert not axis[:, :, :, root].any() and not velocity[:, :, :, root].any()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_a_known_turn(impl):
    """A forearm turning by 0.1 rad a frame in the plane of x and y, as the upper arm lies along x."""
    angle = 0.1 * torch.arange(6)
    x = torch.zeros(1, 3, 6, 25, 1)
    x[0, 0, :, 5] = 1  # elbow; the shoulder stays at 0
    x[0, 0, :, 6, 0] = 1 + angle.cos()
    x[0, 1, :, 6, 0] = angle.sin()
    (velocity,) = derive_modalities(x, torch.tensor([3]), modalities=("angular_velocity",), impl=impl)
    # the axis, forearm × upper arm, points along −z, and is undefined while both lie along x
    torch.testing.assert_close(velocity[0, 2, 1:5, 6, 0], torch.full((4,), -0.2), rtol=1e-5, atol=0)
    assert not velocity[0, :2, :, 6].any()


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_augments_before_deriving(impl):
    x, frames = clips(4, 20), torch.tensor([9, 20, 31, 7])
    shear, start = augment.draw_shear(4), torch.tensor([0, 2, 5, 6])
    augmented = augment.shear(augment.temporal_crop(x, start, padding=20 // 6), shear)
    torch.testing.assert_close(
        derive_modalities(x, frames, shear=shear, crop_start=start, impl=impl),
        derive_modalities(augmented, frames, impl="reference"),
        rtol=1e-5,
        atol=2e-5,
    )


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_writes_what_is_asked_for_in_that_order(impl):
    x, order = clips(), ("angular_velocity", "joint", "acceleration")
    everything = derive_modalities(x, impl=impl)
    some = derive_modalities(x, modalities=order, impl=impl)
    for name, got in zip(order, some, strict=True):
        assert torch.equal(got, everything[MODALITIES.index(name)]), name


@needs_kernel
@pytest.mark.parametrize("out_dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precisions_are_those_of_rounding(dtype, out_dtype):
    """Whatever is read is computed in float32, whatever is written is rounded once."""
    x, frames = clips(3, 23).to(dtype), torch.tensor([5, 50, 500])
    want = derive_modalities(x.float(), frames, impl="fused").to(out_dtype)
    assert torch.equal(derive_modalities(x, frames, out_dtype=out_dtype, impl="fused"), want)


@needs_kernel
def test_rounding_to_half_precision_is_torch_s():
    """Ties, subnormals, overflow, infinities and the largest numbers, through the joint modality."""
    special = torch.tensor([0.0, -0.0, 1.0, 65504, 65519.99, 65520, 1e6, 6e-8, 3e-8, 2.98e-8, 6.1e-5, 1e-40])
    special = torch.cat([special, 1 + torch.arange(8) * 2.0**-11, 1 + torch.arange(8) * 2.0**-8])
    x = torch.zeros(1, 3, 1, 25, 2)
    x.view(-1)[: 2 * len(special)] = torch.cat([special, -special])
    for dtype in (torch.float16, torch.bfloat16):
        (got,) = derive_modalities(x, modalities=("joint",), out_dtype=dtype, impl="fused")
        assert torch.equal(got, x.to(dtype))


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_strides_do_not_matter(impl):
    x = clips(4, 9)
    start = torch.tensor([0, 9, 1, 9, 2, 9, 1, 9])[::2]
    shear = augment.draw_shear(4).transpose(1, 2)
    want = derive_modalities(x, shear=shear.contiguous(), crop_start=start.contiguous(), impl=impl)
    strided = x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    assert torch.equal(derive_modalities(strided, shear=shear, crop_start=start, impl=impl), want)


@needs_kernel
def test_threads_do_not_change_a_bit():
    x, frames = clips(40, 50), torch.randint(1, 200, (40,))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = derive_modalities(x, frames, impl="fused")
        torch.set_num_threads(4)
        assert torch.equal(derive_modalities(x, frames, impl="fused"), alone)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("layout", ["ntu-rgb+d", "coco"])
def test_gradient_in_float64(layout):
    x = clips(2, 4, layout, M=1, dtype=torch.float64).requires_grad_()
    shear = augment.draw_shear(2).double()
    derive = lambda x: derive_modalities(  # noqa: E731
        x, torch.tensor([3, 8]), layout=layout, shear=shear
    )
    assert torch.autograd.gradcheck(derive, x, fast_mode=True)


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_gradient_is_finite_for_empty_bodies(impl):
    x = clips()
    x[..., 1] = 0
    x[:, :, :, 21] = x[:, :, :, 7]
    x.requires_grad_()
    derive_modalities(x, impl=impl).square().sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad[..., 0].any()


@needs_kernel
@pytest.mark.parametrize("out_dtype", [torch.float32, torch.bfloat16])
def test_gradient_of_the_kernel_is_the_reference_s(out_dtype):
    x, frames = clips(4, 11), torch.tensor([1, 4, 50, 11])
    shear, start = augment.draw_shear(4), torch.tensor([0, 1, 2, 1])
    cotangent = torch.randn(6, *x.shape).to(out_dtype)

    def gradient(impl):
        leaf = x.clone().requires_grad_()
        out = derive_modalities(leaf, frames, shear=shear, crop_start=start, out_dtype=out_dtype, impl=impl)
        return torch.autograd.grad(out, leaf, cotangent)[0]

    torch.testing.assert_close(gradient("fused"), gradient("reference"))


def test_float64_takes_the_reference():
    x = clips(dtype=torch.float64)
    assert derive_modalities(x).dtype == torch.float64
    with pytest.raises(RuntimeError, match=r"impl='fused'.*float64"):
        derive_modalities(x, impl="fused")


@needs_kernel
def test_autocast_changes_nothing():
    x, shear = clips(), augment.draw_shear(3)
    with torch.autocast("cpu", torch.bfloat16):
        got = [derive_modalities(x, shear=shear, impl=impl) for impl in ("fused", "reference")]
    assert_same(*got)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x": np.zeros((2, 3, 4, 25, 2))}, TypeError, "x: .*ndarray"),
        ({"x": torch.zeros(2, 3, 4, 25, 2, dtype=torch.int64)}, TypeError, "x: .*int64"),
        ({"x": torch.zeros(2, 3, 4, 20, 2)}, ValueError, r"x: .*V=25.*\(2, 3, 4, 20, 2\)"),
        ({"x": torch.zeros(2, 3, 0, 25, 2)}, ValueError, r"x: .*\(2, 3, 0, 25, 2\)"),
        ({"frames": torch.tensor([1, 2, 3])}, ValueError, r"frames: .*N=2.*\(3,\)"),
        ({"frames": torch.tensor([1, 0])}, ValueError, "frames: .*at least 1.*0"),
        ({"shear": torch.zeros(2, 3)}, ValueError, r"shear: .*\(2, 3\)"),
        ({"crop_start": torch.tensor([0, 3])}, ValueError, "crop_start: .*0 … 2.*3"),
        ({"crop_start": torch.tensor([0, -1])}, ValueError, "crop_start: .*0 … 2.*-1"),
        ({"modalities": ("joint", "bones")}, ValueError, "modalities: .*'bones'"),
        ({"modalities": ("joint", "joint")}, ValueError, "modalities: .*once"),
        ({"modalities": ()}, ValueError, "modalities"),
        ({"layout": "nobody"}, ValueError, "layout: .*'nobody'"),
        ({"impl": "fast"}, ValueError, "impl: .*'fast'"),
    ],
)
def test_errors_name_the_argument(change, error, message):
    arguments = {"x": torch.zeros(2, 3, 6, 25, 2), "frames": torch.tensor([5, 6])} | change
    with pytest.raises(error, match=message):
        derive_modalities(**arguments)
