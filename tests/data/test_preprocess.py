"""Preprocessing: the published numbers, what it keeps invariant, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ikem_fast.data import Skipped, preprocess, preprocess_clip, preprocess_clips
from ikem_fast.skeleton import get_layout, layout_names


def raw_clip(frames=9, layout="ntu-rgb+d", bodies=2, seed=0):
    rng = np.random.default_rng(seed)
    shape = (3, frames, get_layout(layout).num_joints, bodies)
    return (rng.normal(size=shape) + 2).astype(np.float32)


def by_the_formula(raw, frames, layout):
    """The definition, a frame and a body at a time, in float64."""
    layout = get_layout(layout)
    raw = raw.astype(np.float64)
    raw = raw[:, [t for t in range(raw.shape[1]) if raw[:, t, 0, 0].any()]]
    length = raw.shape[1]
    out = np.zeros((3, frames, raw.shape[2], raw.shape[3]))
    for m in range(raw.shape[3]):
        body = raw[..., m] - raw[:, :, [layout.root], m]
        for t in range(frames):
            position = min(max((t + 0.5) * length / frames - 0.5, 0), length - 1)
            before = int(position)
            after = min(before + 1, length - 1)
            out[:, t, :, m] = body[:, before] + (position - before) * (body[:, after] - body[:, before])
        right, left = layout.shoulders
        across = out[:, :, right, m] - out[:, :, left, m]
        sign = -1 if across[2].sum() >= 0 else 1
        for t in range(frames):
            x, z = across[0, t], across[2, t]
            angle = sign * np.arccos(x / (np.sqrt(x * x + z * z) + 1e-4))
            cos, sin = np.cos(angle), np.sin(angle)
            out[:, t, :, m] = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]]) @ out[:, t, :, m]
    return out


def test_published_numbers(shared):
    golden = np.load(shared / "golden" / "preprocess.npz")
    for j in range(4):
        out, expected = preprocess_clip(golden[f"raw{j}"]), golden[f"out{j}"]
        assert np.abs(out - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("layout", layout_names())
@given(
    length=st.integers(1, 130), frames=st.integers(1, 64), bodies=st.integers(1, 3), seed=st.integers(0, 99)
)
@settings(max_examples=15, deadline=None)
def test_formula(layout, length, frames, bodies, seed):
    raw = raw_clip(length, layout, bodies, seed).astype(np.float64)  # near shoulders make float32 inexact
    out = preprocess_clip(raw, frames=frames, layout=layout)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, by_the_formula(raw, frames, layout), atol=2e-6)


def test_tensor_and_array_alike():
    raw = raw_clip()
    out = preprocess_clip(torch.from_numpy(raw).requires_grad_())
    assert isinstance(out, np.ndarray)
    np.testing.assert_array_equal(out, preprocess_clip(raw))
    assert raw.flags.writeable and (raw == raw_clip()).all(), "the input was changed"


def test_integers_and_half_precision_are_computed_in_float32():
    raw = np.round(raw_clip() * 100)
    expected = preprocess_clip(raw)
    np.testing.assert_array_equal(preprocess_clip(raw.astype(np.int16)), expected)
    np.testing.assert_array_equal(preprocess_clip(raw.astype(np.float16)), expected)


def test_shoulders_lie_along_x():
    out = preprocess_clip(raw_clip(60))
    right, left = get_layout("ntu-rgb+d").shoulders
    across = out[:, :, right] - out[:, :, left]
    assert np.abs(across[2]).max() > 0.5, "only where the sign of the whole clip fits the frame"
    slow = raw_clip(1).repeat(20, axis=1)
    slow[0, :, right] += 3  # a plain turn, the same in every frame
    across = np.diff(preprocess_clip(slow)[:, :, [left, right]], axis=2)
    assert np.abs(across[2]).max() < 0.05 < across[0].min()


def test_root_stays_at_the_origin():
    assert not preprocess_clip(raw_clip())[:, :, get_layout("ntu-rgb+d").root].any()


def test_empty_body_stays_zero():
    raw = raw_clip()
    raw[..., 1] = 0
    out = preprocess_clip(raw)
    assert not out[..., 1].any()
    np.testing.assert_array_equal(out[..., :1], preprocess_clip(raw[..., :1]))


def test_one_frame_is_held():
    out = preprocess_clip(raw_clip(1))
    assert (out == out[:, :1]).all()


def test_frames_without_body_0_do_not_count():
    raw = raw_clip(12)
    gaps = raw.copy()
    gaps[:, [0, 5, 11], :, 0] = 0
    ((clip, true_frames),) = preprocess_clips([gaps])
    assert true_frames == 9
    np.testing.assert_array_equal(clip, preprocess_clip(np.delete(raw, [0, 5, 11], axis=1)))


def test_coordinates_centred_on_the_first_joint_count():
    raw = raw_clip(12)
    raw -= raw[:, :, :1]
    raw[:, 3] = 0
    ((clip, true_frames),) = preprocess_clips([raw])
    assert true_frames == 11 and clip.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("body", [0, 1])
def test_unusable_coordinates_name_the_frame(bad, body):
    raw = raw_clip()
    raw[1, 4, 7, body] = bad
    with pytest.raises(ValueError, match=r"raw: expected coordinates below .* in frame 4"):
        preprocess_clip(raw)


def test_no_body():
    with pytest.raises(ValueError, match=r"expected a body, found none in any of 9 frames"):
        preprocess_clip(np.zeros((3, 9, 25, 2)))
    with pytest.raises(ValueError, match="expected a body, found none in any of 0 frames"):
        preprocess_clip(np.zeros((3, 0, 25, 2)))


@pytest.mark.parametrize("shape", [(9, 25, 3), (2, 9, 25, 2), (3, 9, 20, 2), (3, 9, 25, 0), (3, 9, 25, 2, 1)])
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match=r"expected shape \(3, F, 25, M\)"):
        preprocess_clip(np.ones(shape))


def ragged():
    """Usable clips of several lengths, dtypes and bodies, and what is not usable in between."""
    gaps, dirty = raw_clip(30), raw_clip(8)
    gaps[:, 3:9, :, 0] = 0
    dirty[2, 5, 24, 1] = np.nan
    return [
        raw_clip(1), raw_clip(90, seed=1), raw_clip(40).astype(np.float64), np.zeros((3, 9, 25, 2)), gaps,
        np.ones((3, 9, 20, 2)), raw_clip(5, bodies=1), dirty, raw_clip(12).transpose(0, 1, 2, 3)[..., ::-1],
    ]  # fmt: skip


def test_a_batch_is_its_clips_one_by_one():
    raws = ragged()
    results = preprocess_clips(raws, frames=17)
    assert len(results) == len(raws)
    for raw, result in zip(raws, results, strict=True):
        if isinstance(result, Skipped):
            with pytest.raises(ValueError) as alone:
                preprocess_clip(raw, frames=17)
            assert str(alone.value) == f"raw: {result.reason}"
        else:
            clip, true_frames = result
            np.testing.assert_array_equal(clip, preprocess_clip(raw, frames=17))
            assert true_frames == raw[:, :, 0, 0].any(0).sum()
    assert [isinstance(result, Skipped) for result in results] == [
        False, False, False, True, False, True, False, True, False,
    ]  # fmt: skip
    assert preprocess_clips([]) == []


def test_without_the_extension_torch_computes_the_same(monkeypatch):
    if preprocess._skeleton_io is None:
        pytest.skip("the extension is not built")
    fast = preprocess_clips(ragged())
    monkeypatch.setattr(preprocess, "_skeleton_io", None)
    for ours, theirs in zip(preprocess_clips(ragged()), fast, strict=True):
        if isinstance(ours, Skipped):
            assert ours == theirs
        else:
            np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6, atol=1e-6)
            assert ours[1] == theirs[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounded_coordinates(monkeypatch, dtype):
    """NaN, infinities and large ones are found wherever they are, with the extension and without."""
    for extension in (preprocess._skeleton_io, None):
        monkeypatch.setattr(preprocess, "_skeleton_io", extension)
        for size in (0, 1, 7, 100):
            values = np.linspace(-9e8, 9e8, size, dtype=dtype)
            assert preprocess.is_bounded(values)
            for place in range(size):
                for odd in (np.nan, -np.nan, np.inf, -np.inf, 1e9, -1e9, 3e38):
                    changed = values.copy()
                    changed[place] = odd
                    assert not preprocess.is_bounded(changed)
        assert preprocess.is_bounded(np.array([[1, np.nan]] * 3, dtype)[:, 0]), "beside it, not in it"


def test_the_extension_leaves_torch_alone():
    """A process that prepares clips is small because it has no torch in it."""
    if preprocess._skeleton_io is None:
        pytest.skip("the extension is not built")
    script = """
import sys
import numpy as np
from ikem_fast.data import pipeline
assert len(list(pipeline.to_clips([np.ones((3, 4, 25, 1))], "ntu-rgb+d"))) == 1
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], 50, 0, 1, 2), "at least one array"),
        (([np.ones((3, 4, 25))], 50, 0, 1, 2), "at least one array"),
        (([np.ones((3, 4, 25, 1)), np.ones((3, 4, 25, 2))], 50, 0, 1, 2), "all of the same V, M and dtype"),
        (([np.ones((3, 4, 25, 1)), np.ones((3, 4, 25, 1), "f4")], 50, 0, 1, 2), "V, M and dtype"),
        (([np.ones((2, 4, 25, 1))], 50, 0, 1, 2), "V, M and dtype"),
        (([np.ones((3, 4, 25, 1), ">f4")], 50, 0, 1, 2), "V, M and dtype"),
        (([np.ones((3, 4, 25, 1))], 0, 0, 1, 2), "frame"),
        (([np.ones((3, 4, 25, 1))], 50, 0, 1, 25), "expected joints"),
        (([np.ones((3, 4, 25, 1))], 50, -1, 1, 2), "expected joints"),
    ],
)
def test_the_extension_itself_refuses_what_would_read_out_of_bounds(arguments, message):
    if preprocess._skeleton_io is None:
        pytest.skip("the extension is not built")
    with pytest.raises(ValueError, match=message):
        preprocess._skeleton_io.preprocess(*arguments)


def test_wrong_settings():
    with pytest.raises(ValueError, match="frames: expected at least 1"):
        preprocess_clip(raw_clip(), frames=0)
    with pytest.raises(ValueError, match="layout: expected one of"):
        preprocess_clip(raw_clip(), layout="octopus")
