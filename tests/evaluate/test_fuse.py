"""Fusion of scores, on scores that are written down."""

import numpy as np
import pytest

from ikem_fast.errors import InputError
from ikem_fast.evaluate import FuseConfig, Results, Scores, evaluate_fuse, read_results
from ikem_fast.evaluate.results import score


def write(folder, scores, labels=(0, 1, 1), name="joint+bone", names=("a", "b", "c")):
    import torch

    scores = np.array(scores, np.float32)
    labels = np.array(labels)
    sets = {"joint": scores[:, ::-1].copy(), name: scores}
    found = {one: score(torch.from_numpy(x), torch.from_numpy(labels), ("p", "q")) for one, x in sets.items()}
    Results("Linear evaluation", "d", {}, {"train": 1, "test": 3}, ["p", "q"], found).write(
        folder / "linear.json"
    )
    Scores(labels, np.array(names), sets).write(folder / "linear_scores.npz")
    return f"{folder / 'linear.json'}"


def test_scores_of_any_scale_count_alike(tmp_path):
    """Each is wrong on a clip of its own, where it is unsure; one is on a scale a thousand times larger."""
    first = write(tmp_path / "a", [[0, 1], [0, 9], [0, 9]])
    second = write(tmp_path / "b", [[9000, 0], [1000, 0], [0, 9000]])
    results = evaluate_fuse(FuseConfig(results=(first, second), out=tmp_path))
    assert [one.top1 for one in results.sets.values()] == [
        pytest.approx(200 / 3),
        pytest.approx(200 / 3),
        100,
    ]
    assert list(results.sets) == ["1: joint+bone", "2: joint+bone", "fused"]
    assert read_results(tmp_path / "fuse.json") == results
    alone = evaluate_fuse(FuseConfig(results=(first, second), out=tmp_path, weights=(1.0, 0.0)))
    assert alone.sets["fused"] == results.sets["1: joint+bone"]
    chosen = evaluate_fuse(FuseConfig(results=(f"{first}:joint",), out=tmp_path))
    assert chosen.sets["fused"].top1 == pytest.approx(100 / 3)


def test_what_does_not_fit_is_named(tmp_path):
    first = write(tmp_path / "a", [[0, 1]] * 3)
    other = write(tmp_path / "b", [[0, 1]] * 3, names=("a", "b", "z"))
    wrong = {
        (first, other): f"expected the test clips of {first}, found others in {other}",
        (f"{first}:elbow",): "expected a set out of joint, joint\\+bone, found 'elbow'",
        (): "results: expected at least one",
        (str(tmp_path / "none.json"),): "none.json: expected the results",
    }
    for results, message in wrong.items():
        with pytest.raises(InputError, match=message):
            evaluate_fuse(FuseConfig(results=results, out=tmp_path))
    with pytest.raises(InputError, match="weights: expected one for each of 1 results"):
        evaluate_fuse(FuseConfig(results=(first,), out=tmp_path, weights=(1.0, 2.0)))
