"""The procedural dataset: the same everywhere for a seed, bodies as they should be, splits by subject."""

import numpy as np
import pytest

from ikem_fast.data import preprocess_clips, synthetic
from ikem_fast.data.synthetic import ACTIONS, SUBJECTS, SyntheticClip, generate_clip, plan_clips

LABELS = {name: label for label, name in enumerate(ACTIONS)}


def clean(monkeypatch):
    """People of one shape who stand still otherwise, before a perfect sensor straight ahead."""
    for constant in (
        "PROPORTIONS",
        "MANNER",
        "POSTURE",
        "IDLE",
        "BUSY",
        "YAW",
        "TILT",
        "SKEW",
        "NOISE",
        "GUESSED",
        "LOST",
    ):
        monkeypatch.setattr(synthetic, constant, 0)
    synthetic.make_subject.cache_clear()


@pytest.fixture(autouse=True)
def no_subjects_left_over():
    yield
    synthetic.make_subject.cache_clear()


def test_same_seed_same_clip():
    clip = SyntheticClip(3, 7)
    first = generate_clip(clip, 5)
    for other in plan_clips(3):
        generate_clip(other, 5)
    np.testing.assert_array_equal(generate_clip(clip, 5), first)
    assert generate_clip(clip, 6).shape != first.shape or np.abs(generate_clip(clip, 6) - first).max() > 0.1


def test_plan():
    clips = plan_clips(2 * SUBJECTS)
    assert len({clip.name for clip in clips}) == len(clips) == 2 * SUBJECTS * len(ACTIONS)
    assert len(ACTIONS) == 12
    subjects = {split: {clip.subject for clip in clips if clip.split == split} for split in ("train", "test")}
    assert not subjects["train"] & subjects["test"]
    assert len(subjects["train"]) == 2 * len(subjects["test"]) == 2 * SUBJECTS // 3
    for split in subjects:
        labels = [clip.label for clip in clips if clip.split == split]
        assert len(set(np.bincount(labels))) == 1, "as many clips of each class"


@pytest.mark.parametrize("action", ACTIONS)
def test_clips(action):
    for index in range(4):
        raw = generate_clip(SyntheticClip(LABELS[action], index), 0)
        assert raw.dtype == np.float32 and raw.shape[0] == 3 and raw.shape[2:] == (25, 2)
        assert synthetic.MIN_FRAMES <= raw.shape[1] <= synthetic.MAX_FRAMES
        assert raw[..., 1].any() == (action in ("shake hands", "push"))
        ((clip, true_frames),) = preprocess_clips([raw])
        assert true_frames > 0.8 * raw.shape[1]
        assert np.abs(clip).max() < 2.5, "a person is not taller"


def test_bones_keep_their_lengths(monkeypatch):
    clean(monkeypatch)
    raw = generate_clip(SyntheticClip(LABELS["push"], 0), 0).astype(np.float64)
    for joint, parent, _ in synthetic._SKELETON:
        lengths = np.linalg.norm(raw[:, :, joint] - raw[:, :, parent], axis=0)
        assert np.ptp(lengths, axis=0).max() < 1e-5


def test_feet_stay_on_the_floor(monkeypatch):
    clean(monkeypatch)
    for action in ("sit down", "pick up", "raise hand"):
        raw = generate_clip(SyntheticClip(LABELS[action], 0), 0)[..., 0]
        lowest = raw[1][:, [14, 15, 18, 19]].min(axis=1)
        assert np.ptp(lowest) < 1e-5


def head_height(action):
    raw = generate_clip(SyntheticClip(LABELS[action], 0), 0)[..., 0]
    return raw[1, :, 3]


def test_actions_differ_in_direction(monkeypatch):
    clean(monkeypatch)
    sit, stand = head_height("sit down"), head_height("stand up")
    assert sit[0] - sit[-1] > 0.2 and stand[-1] - stand[0] > 0.2
    for action, sense in (("circle arm clockwise", 1), ("circle arm counter-clockwise", -1)):
        for index in range(SUBJECTS):  # right- and left-handed ones
            raw = generate_clip(SyntheticClip(LABELS[action], index), 0)[..., 0].astype(np.float64)
            hand = max((raw[:, :, h] - raw[:, :, 20] for h in (7, 11)), key=lambda path: np.ptp(path[0]))
            middle = slice(len(hand[0]) // 3, 2 * len(hand[0]) // 3)
            x, y = hand[0, middle] - hand[0, middle].mean(), hand[1, middle] - hand[1, middle].mean()
            turned = np.sum(x[:-1] * np.diff(y) - y[:-1] * np.diff(x))
            assert np.sign(turned) == -sense, "x is to the person's right: clockwise as the person sees it"


def test_a_hidden_joint_stays_where_it_was(monkeypatch):
    clean(monkeypatch)
    monkeypatch.setattr(synthetic, "NOISE", 0.01)
    monkeypatch.setattr(synthetic, "GUESSED", 0.2)
    raw = generate_clip(SyntheticClip(0, 0), 0)[..., 0]
    frozen = (np.diff(raw, axis=1) == 0).all(axis=0).mean()
    assert 0.08 < frozen < 0.3
