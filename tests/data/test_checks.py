"""Mistakes that users make, each found in prepared clips and said once; nothing is said of what is right."""

import re

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import open_dataset, synthetic
from ikem_fast.data.checks import doubts_about
from ikem_fast.data.formats.npz import prepare_npz
from ikem_fast.data.preparation import Preparation, Preprocessing, Rules, preparing
from ikem_fast.skeleton import get_layout

NTU = get_layout("ntu-rgb+d")


@pytest.fixture(scope="module")
def people():
    """Sixteen raw clips (F, 25, 3) of simulated people."""
    planned = synthetic.plan_clips(3)[:16]
    return [synthetic.generate_clip(clip, 0)[..., 0].transpose(1, 2, 0) for clip in planned]


def doubts(tmp_path, people, change=lambda x: x, layout="ntu-rgb+d", rule="subject=0,1", subjects=None):
    x = [change(clip.copy()).astype(np.float32) for clip in people]
    subjects = np.arange(len(x)) // 4 if subjects is None else subjects
    np.savez(tmp_path / "a.npz", x=np.concatenate(x), len=[len(clip) for clip in x],
             y=np.arange(len(x)) % 4, subject=subjects)  # fmt: skip
    return list(doubts_about(prepare_npz(tmp_path / "out", tmp_path / "a.npz", layout, rule)))


def one_joint(joint, value):
    def change(x):
        x[:, NTU.joints.index(joint)] = value(x)
        return x

    return change


def test_nothing_is_said_of_what_is_right(tmp_path, people):
    assert doubts(tmp_path, people) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: 1000 * x, r"the farthest joint lies .* by --scale 0.001"),
        (lambda x: x[..., [0, 2, 1]] * [1, -1, 1], r"z points up or down, not y, in 16 of 16 .* --up z"),
        (lambda x: x * [1, -1, -1], r"y points down, as in images, in 16 of 16 clips: .* --up y-down"),
        (lambda x: x[:, list(NTU.swap)], r"feet and knees point backward in \d+ of 16 clips: left and right"),
        (lambda x: x * [-1, 1, 1], r"feet and knees point backward in \d+ of 16 clips: .* axis .* mirrored"),
        (one_joint("head", lambda x: 0), r"joints are far from where they hang, .*: head, in 16 of 16 clips"),
        (one_joint("left foot", lambda x: x[:, 14]), r"joints are where they hang .*: left foot, in 16"),
        (lambda x: np.repeat(x[:1], 9, axis=0), r"16 of 16 clips do not move at all"),
    ],
)  # fmt: skip
def test_each_mistake_is_said_once(tmp_path, people, change, said):
    found = doubts(tmp_path, people, change)
    assert len(found) == 1 and re.match(said, found[0])


def test_another_layout_of_as_many_joints(tmp_path, people):
    found = doubts(tmp_path, people, layout="openpose-25")
    assert any("times as long; both have 25 joints: is it 'ntu-rgb+d" in one for one in found)


def test_clips_that_are_there_twice(tmp_path, people):
    found, whole = doubts(tmp_path, [*people[:8], *people[:8]])
    assert found.startswith("8 clips are there twice, 8 of them in train and test both: a-08 (test) and a-00")
    assert re.match(r"every test clip of .+ is a copy of another split's: .* --drop-copies", whole)


def test_copies_of_some_clips_of_a_class_are_no_copied_class(tmp_path, people):
    (found,) = doubts(tmp_path, [*people[:8], *people[:4], *people[8:12]])
    assert found.startswith("4 clips are there twice, 4 of them in train and test both")


@pytest.mark.parametrize(
    ("rule", "said"),
    [("subject=0,1", False), ("ratio=0.5", True), ("ratio=0.5,by=subject", False), ("fold=1/2", True)],
)
def test_people_in_both_splits(tmp_path, people, rule, said):
    found = doubts(tmp_path, people, rule=rule)
    assert ["test subjects are training subjects, too" in one for one in found] == [True] * said


def test_what_is_chosen_ends_the_warning(tmp_path, people):
    with preparing(Preparation(Preprocessing(up="y-down", reach=1.0), Rules())):
        assert doubts(tmp_path, people, lambda x: x * [300, -300, -300]) == []


def test_the_doctor_says_the_same_and_draws_a_clip_of_each_class(tmp_path, people, capsys):
    (said,) = doubts(tmp_path, people, lambda x: 1000 * x)
    capsys.readouterr()
    words = ["doctor", "--data", str(tmp_path / "out"), "--out", str(tmp_path / "classes.png")]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert f"warning: {said}" in captured.err and "8 train, 8 test clips of 4 classes" in captured.out
    assert (tmp_path / "classes.png").read_bytes().startswith(b"\x89PNG")
    assert open_dataset(tmp_path / "out").num_joints == 25
