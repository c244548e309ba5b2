"""Finetuning and few labels: the whole of it on tiny data, and which clips have labels."""

import numpy as np
import pytest

from ikem_fast.errors import InputError
from ikem_fast.evaluate import (
    FinetuneConfig,
    SemiConfig,
    evaluate_finetune,
    evaluate_semi,
    read_results,
    read_scores,
    result_table,
)
from ikem_fast.evaluate.protocols import semi
from ikem_fast.evaluate.protocols.semi import beside_labeled, draw_labeled
from tests.evaluate.tables import text_of

SETS = "joint,joint+motion+bone"


def test_finetuned_stand_beside_scratch_and_frozen(small, tmp_path):
    settings = {**small, "out": tmp_path, "sets": SETS, "steps": 2, "untrained_seeds": 1}
    results = evaluate_finetune(FinetuneConfig(**settings))
    assert read_results(tmp_path / "finetune.json") == results
    assert list(results.baselines) == ["chance", "raw", "untrained", "frozen", "scratch"]
    assert results.source == "finetuned" and list(results.sets) == SETS.split(",")
    shown = text_of(result_table(results))
    assert "scratch" in shown and "finetuned" in shown
    scores = read_scores(tmp_path / "finetune_scores.npz")
    right = 100 * (scores.sets["joint"].argmax(1) == scores.labels).mean()
    assert right == pytest.approx(results.sets["joint"].top1)
    again = evaluate_finetune(FinetuneConfig(**settings, baselines=False, scratch=False))
    assert again.sets == results.sets and list(again.baselines) == ["chance", "frozen"]
    other = evaluate_finetune(FinetuneConfig(**settings | {"lr": 0.5}, baselines=False, scratch=False))
    assert other.sets != results.sets


def test_scratch_is_what_untrained_encoders_are_trained_to(small, tmp_path):
    settings = {**small, "out": tmp_path, "sets": "joint", "steps": 2, "baselines": False}
    results = evaluate_finetune(FinetuneConfig(**settings))
    scratch = evaluate_finetune(FinetuneConfig(**settings, untrained=True))
    assert scratch.source == "scratch" and "scratch" not in scratch.baselines
    assert results.baselines["scratch"].top1["joint"] == scratch.sets["joint"].top1


def test_few_labels(small, tmp_path):
    settings = {**small, "out": tmp_path, "sets": SETS, "shares": (1.0, 60.0), "draws": 2}
    results = evaluate_semi(SemiConfig(**settings, steps=2))
    assert read_results(tmp_path / "semi.json") == results
    assert list(results.sets) == [
        f"{share}% of labels: {one}" for share in (1, 60) for one in SETS.split(",")
    ]
    assert list(results.baselines) == [
        "chance", "raw", "untrained", "frozen", "scratch", "scratch, spread", "finetuned",
    ]  # fmt: skip
    assert results.source == "finetuned, spread"
    name = "60% of labels: joint"
    assert results.sets[name].deviation is not None and results.baselines["frozen"].runs == 2
    assert sum(map(sum, results.sets[name].confusion)) == 2 * results.clips["test"]
    assert "60% of labels: joint+motion+bone" in text_of(result_table(results))
    frozen = evaluate_semi(SemiConfig(**settings, finetune=False))
    assert frozen.source == "frozen" and list(frozen.baselines) == ["chance", "raw", "untrained"]
    assert frozen.sets[name].top1 == pytest.approx(results.baselines["frozen"].top1[name])
    with pytest.raises(InputError, match="shares"):
        evaluate_semi(SemiConfig(**settings | {"shares": (0.0,)}))


def test_a_share_of_each_class_has_labels_and_at_least_one_clip():
    labels = np.repeat([0, 1, 3], [40, 3, 100])
    drawn = draw_labeled(labels, 10.0, seed=1)
    assert np.bincount(labels[drawn]).tolist() == [4, 1, 0, 10] and len(set(drawn)) == len(drawn)
    assert drawn.tolist() == draw_labeled(labels, 10.0, seed=1).tolist()
    assert drawn.tolist() != draw_labeled(labels, 10.0, seed=2).tolist()
    assert len(draw_labeled(labels, 100.0, seed=0)) == len(labels)


def test_of_very_many_clips_without_labels_some_take_part(monkeypatch):
    labeled = np.array([4, 17])
    assert beside_labeled(20, labeled, seed=0).tolist() == list(range(20))
    monkeypatch.setattr(semi, "MOST_CLIPS", 5)
    clips = beside_labeled(20, labeled, seed=0)
    assert len(set(clips)) == 7 and {4, 17} < set(clips) and sorted(clips) == clips.tolist()
