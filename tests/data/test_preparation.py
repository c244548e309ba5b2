"""Preprocessing by choice: each setting does what it says, the defaults are what they were, all is kept."""

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import open_dataset, preprocess_clip, preprocess_clips
from ikem_fast.data.formats.npz import prepare_npz
from ikem_fast.data.preparation import Preparation, Preprocessing, Rules, preparing
from ikem_fast.data.preprocess import RawClip, Skipped
from ikem_fast.data.steps import pose, sample, uniform_frames
from ikem_fast.errors import InputError
from ikem_fast.settings import check
from ikem_fast.skeleton import Layout, get_layout

SBU = get_layout("sbu")
RIGHT, LEFT = SBU.shoulders


def raw_clip(frames=40, bodies=2, seed=0):
    """A clip whose second body comes late."""
    raw = np.random.default_rng(seed).normal(size=(3, frames, 15, bodies)).astype(np.float32)
    raw[:, : frames // 4, :, 1:] = 0
    return raw


def chosen(raw, **choices):
    return preprocess_clip(raw, layout=SBU, preprocessing=Preprocessing(**choices))


@pytest.mark.parametrize("frames", [1, 7, 40, 50, 97])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_steps_by_default_are_what_is_computed_in_one_pass(frames, dtype):
    raw = raw_clip(frames).astype(dtype)
    x, true_frames = sample(raw, Preprocessing(frames=50))
    ((clip, expected),) = preprocess_clips([raw], layout=SBU)
    np.testing.assert_allclose(pose(x, SBU, Preprocessing()), clip, atol=2e-5)
    assert true_frames == expected == frames


def test_sampling():
    raw = raw_clip(40)
    plain = {"center": "none", "align": "none"}
    np.testing.assert_array_equal(chosen(raw, sampling="none", frames=30, **plain), raw[:, :30])
    longer = chosen(raw, sampling="none", frames=50, **plain)
    np.testing.assert_array_equal(longer[:, :40], raw)
    np.testing.assert_array_equal(longer[:, 40:], np.repeat(raw[:, -1:], 10, axis=1))
    np.testing.assert_array_equal(
        chosen(raw, sampling="uniform", frames=8, **plain), raw[:, uniform_frames(40, 8)]
    )
    np.testing.assert_array_equal(chosen(raw, frames=40, **plain), raw)
    counts = {
        (sampling, frames): preprocess_clips(
            [raw], layout=SBU, preprocessing=Preprocessing(sampling=sampling, frames=frames)
        )[0].frames
        for sampling in ("linear", "uniform", "none")
        for frames in (20, 60)
    }
    assert counts == {("linear", 20): 40, ("linear", 60): 40, ("uniform", 20): 40, ("uniform", 60): 60,
                      ("none", 20): 20, ("none", 60): 60}  # fmt: skip


@pytest.mark.parametrize(("length", "frames"), [(3, 8), (8, 8), (9, 8), (15, 8), (16, 8), (100, 8)])
def test_uniform_frames_are_one_of_each_part(length, frames):
    drawn = uniform_frames(length, frames)
    assert drawn.tolist() == uniform_frames(length, frames).tolist() and len(drawn) == frames
    if length < frames:
        assert drawn.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    else:
        assert (np.diff(drawn) > 0).all() and drawn[0] >= 0 and drawn[-1] < length
    if length >= 2 * frames:
        assert (drawn // (length / frames)).astype(int).tolist() == list(range(frames))


def test_centers():
    raw, whole = raw_clip(), {"frames": 40, "align": "none"}
    np.testing.assert_allclose(chosen(raw, center="frame", **whole), raw - raw[:, :, SBU.root, None])
    clip = chosen(raw, center="clip", **whole)
    assert not clip[:, 0, SBU.root, 0].any() and not clip[:, :10, :, 1].any()
    apart = (raw[..., 0] - raw[..., 1])[:, 10:]
    np.testing.assert_allclose((clip[..., 0] - clip[..., 1])[:, 10:], apart, atol=1e-6)
    np.testing.assert_array_equal(chosen(raw, center="none", **whole), raw)


def test_alignment_of_a_clip_is_one_turn_by_its_first_frame():
    raw = raw_clip()
    clip = chosen(raw, frames=40, align="clip", center="none")
    across = clip[:, 0, RIGHT, 0] - clip[:, 0, LEFT, 0]
    assert across[0] > 0 and abs(across[2]) < 1e-5
    np.testing.assert_array_equal(clip[1], raw[1])
    turn = np.linalg.lstsq(raw[::2].reshape(2, -1).T, clip[::2].reshape(2, -1).T, rcond=None)[0]
    np.testing.assert_allclose(turn @ turn.T, np.eye(2), atol=1e-5)
    np.testing.assert_allclose(turn.T @ raw[::2].reshape(2, -1), clip[::2].reshape(2, -1), atol=1e-4)


def test_a_pair_is_seen_from_between_the_two():
    raw = raw_clip()
    clip = chosen(raw, frames=40, center="pair", align="pair")
    first, second = clip[:, 10, SBU.root].T  # the first frame that has both
    np.testing.assert_allclose(first, -second, atol=1e-6)
    assert second[0] > 0 and abs(second[2]) < 1e-6
    assert not clip[:, :10, :, 1].any()
    distances = [np.linalg.norm(x[:, 10:, :, 0] - x[:, 10:, :, 1], axis=0) for x in (raw, clip)]
    np.testing.assert_allclose(*distances, atol=1e-5)
    assert np.ptp((clip - raw)[1, 10:]) < 1e-5, "heights are changed by more than where the middle is"


@pytest.mark.parametrize("alone", ["one body", "never both", "one above the other"])
def test_who_is_alone_is_centered_and_turned_as_by_clip(alone):
    raw = raw_clip()
    if alone == "one body":
        raw = raw[..., :1]
    elif alone == "never both":
        raw[:, 10:, :, 1:] = 0
    else:
        raw[::2, :, SBU.root, 1] = raw[::2, :, SBU.root, 0]
        raw[:, :10, :, 1] = 0
    turned = [chosen(raw, align=align, center="none", frames=40) for align in ("pair", "clip")]
    np.testing.assert_array_equal(*turned)
    if alone != "one above the other":
        np.testing.assert_array_equal(chosen(raw, center="pair"), chosen(raw, center="clip"))


def test_scale_and_reach():
    raw = raw_clip()
    np.testing.assert_allclose(chosen(raw, scale=0.001), chosen(raw) * np.float32(0.001))
    clip = chosen(1000 * raw, reach=1.0)
    reaches = np.linalg.norm(clip[..., 0] - clip[:, :, SBU.root, None, 0], axis=0).max(1)
    assert np.median(reaches) == pytest.approx(1, abs=1e-5)


def test_which_way_is_up():
    raw = raw_clip()
    z_up = np.stack((raw[0], -raw[2], raw[1]))
    np.testing.assert_array_equal(chosen(z_up, up="z"), chosen(raw))
    down = raw * np.array([1, -1, -1], np.float32)[:, None, None, None]
    np.testing.assert_array_equal(chosen(down, up="y-down"), chosen(raw))
    plane = {"planar": True, "align": "none"}
    image = raw * np.array([1, -1, 1], np.float32)[:, None, None, None]
    np.testing.assert_array_equal(chosen(image, up="y-down", **plane), chosen(raw, **plane))


def test_which_bodies_and_how_many():
    raw = raw_clip(bodies=3)
    raw[..., 0] *= 0.01
    raw[..., 2] *= 5
    np.testing.assert_array_equal(chosen(raw, num_bodies=2), chosen(raw[..., :2]))
    np.testing.assert_array_equal(chosen(raw, num_bodies=1, bodies_by="motion"), chosen(raw[..., 2:]))
    more = chosen(raw, num_bodies=5)
    assert more.shape[-1] == 5 and not more[..., 3:].any()
    np.testing.assert_array_equal(more[..., :3], chosen(raw))


def test_frame_rates():
    raw, plain = raw_clip(60), {"center": "none", "align": "none", "sampling": "none", "frames": 30}
    half = {"frame_rate": 30.0, **plain}
    np.testing.assert_array_equal(chosen(RawClip(raw, 60.0), **half), raw[:, ::2])
    np.testing.assert_array_equal(chosen(raw, source_rate=60.0, **half), raw[:, ::2])
    np.testing.assert_array_equal(chosen(RawClip(raw, 30.0), **half), raw[:, :30])
    double = chosen(RawClip(raw, 15.0), **half)
    np.testing.assert_array_equal(double[:, ::2], raw[:, :15])
    np.testing.assert_allclose(double[:, 1, :, 0], (raw[:, 0, :, 0] + raw[:, 1, :, 0]) / 2, rtol=1e-5)
    assert not (double[:, 29, :, 1].any() and not raw[:, 14, :, 1].any()), "a body that is half there"
    (result,) = preprocess_clips([raw], layout=SBU, preprocessing=Preprocessing(frame_rate=30.0))
    assert isinstance(result, Skipped) and "give --source-rate" in result.reason


def test_a_score_in_the_third_place_stays():
    raw = raw_clip(bodies=1)
    raw[2] = np.abs(raw[2]) % 1
    clip = chosen(raw, planar=True, align="none", frames=40, scale=0.5)
    np.testing.assert_array_equal(clip[2], raw[2])
    np.testing.assert_allclose(clip[:2], (raw - raw[:, :, SBU.root, None])[:2] * 0.5, rtol=1e-6)


def test_a_layout_without_shoulders_is_prepared_as_it_stands():
    stick = Layout("stick", ("hip", "head", "hand"), (-1, 0, 1))
    raw = np.random.default_rng(0).normal(size=(3, 9, 3, 1)).astype(np.float32)
    with pytest.raises(InputError, match=r"layout with shoulders .* 'stick' without; say --align none"):
        preprocess_clip(raw, layout=stick)
    clip = preprocess_clip(raw, layout=stick, preprocessing=Preprocessing(align="none", frames=9))
    np.testing.assert_array_equal(clip, raw - raw[:, :, :1])


def test_damage_and_empty_clips_are_found_whatever_is_chosen():
    raw = raw_clip()
    raw[0, 3, 2, 0] = np.nan
    results = preprocess_clips(
        [raw, np.zeros((3, 5, 15, 2)), raw_clip()], layout=SBU, preprocessing=Preprocessing(align="none")
    )
    assert "in frame 3" in results[0].reason and "found none in any of 5 frames" in results[1].reason
    assert np.isfinite(results[2].coordinates).all()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"planar": True}, "align: expected none for poses in a plane, found 'frame'"),
        ({"source_rate": 30.0}, "source_rate: expected a frame_rate"),
        ({"scale": 2.0, "reach": 1.0}, "reach: expected one of scale and reach"),
        ({"frames": 0}, "frames: expected a number ≥ 1"),
        ({"scale": -1.0}, "scale: expected a number > 0"),
        ({"num_bodies": 0}, "num_bodies: expected a number ≥ 1"),
        ({"sampling": "cubic"}, "sampling: expected one of linear, uniform, none"),
        ({"frame_rate": float("nan")}, "frame_rate: expected a number > 0"),
    ],
)
def test_choices_that_cannot_be(choices, message):
    with pytest.raises(InputError, match=message):
        check(Preprocessing(**choices))


@pytest.fixture
def packed(tmp_path):
    """Twelve clips of two bodies of SBU's joints, by four subjects."""
    x = np.random.default_rng(0).normal(size=(12 * 9, 15, 3, 2)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, len=np.full(12, 9), y=np.arange(12) % 3, subject=np.arange(12) // 3)
    return tmp_path / "a.npz"


def test_choices_are_options_of_every_format_and_kept_with_the_folder(packed, tmp_path):
    words = ["--layout=sbu", "--train=subject=0,1", "--frames=16", "--sampling=uniform", "--num-bodies=1"]
    out = tmp_path / "out"
    assert main(["prepare", "npz", f"--source={packed}", *words, "--to-layout=coco", f"--out={out}"]) == 0
    dataset = open_dataset(out)
    assert (dataset.layout, dataset.num_frames, dataset.num_bodies) == ("coco", 16, 1)
    assert dataset["train"].clips.shape == (6, 3, 16, 17, 1)
    expected = Preprocessing(frames=16, sampling="uniform", num_bodies=1, to_layout="coco")
    assert dataset.preprocessing == expected
    raw = np.load(packed)["x"][:9].transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(
        dataset["train"].clips[0], preprocess_clip(raw, layout="sbu", preprocessing=expected)
    )
    assert main(["prepare", "npz", f"--source={packed}", *words, f"--out={out}"]) == 2, "other settings"


def test_what_was_prepared_by_default_says_no_more_than_it_did(packed, tmp_path):
    dataset = prepare_npz(tmp_path / "out", packed, "sbu", "subject=0,1")
    assert dataset.prepared == {"from": "npz", "file": "a.npz", "bytes": packed.stat().st_size,
                                "train": "subject=0,1", "frames": 50}  # fmt: skip
    assert dataset.preprocessing == Preprocessing(frames=50)


def test_worker_processes_prepare_as_chosen(shared, tmp_path):
    from ikem_fast.data.formats import FORMATS

    chosen = Preparation(Preprocessing(frames=8, align="none", num_bodies=1), Rules(test="action=1"))
    with preparing(chosen):
        dataset = FORMATS["ntu"].prepare(
            tmp_path / "out", shared / "data" / "ntu_skeletons", "ntu60-xsub", workers=2
        )
    assert dataset["train"].clips.shape[1:] == (3, 8, 25, 1) and len(dataset["test"])
    assert all(name.endswith("A001") for name in dataset["test"].names)
    assert not any(name.endswith("A001") for name in dataset["train"].names)
    assert dataset.prepared["test"] == "action=1" and dataset.prepared["align"] == "none"
