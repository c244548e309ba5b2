"""Runs side by side: which are put together, what the test says, what is shown."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from ikem_fast.cli import main
from ikem_fast.errors import InputError
from ikem_fast.evaluate import Results, Scores, find_groups, paired_test
from ikem_fast.evaluate.results import score

LABELS = np.arange(60) % 2


def write(folder, right, seed, names=None, probe="ridge", train=9, **settings):
    """Results of a run that got these clips right."""
    scores = np.eye(2, dtype=np.float32)[np.where(right, LABELS, 1 - LABELS)]
    found = {"joint": score(torch.from_numpy(scores), torch.from_numpy(LABELS), ("p", "q"))}
    settings = {"seed": seed, "out": str(folder), "checkpoint": str(folder.parent), **settings}
    training = {"config": {"seed": seed, "lr": settings.get("lr")}}
    results = Results("Linear evaluation", "d", settings, {"train": train, "test": 60}, ["p", "q"], found,
                      probe=probe, training=training)  # fmt: skip
    results.write(folder / "linear.json")
    names = np.array([str(i) for i in range(60)]) if names is None else names
    Scores(LABELS, names, {"joint": scores}).write(folder / "linear_scores.npz")


def shares(*counts):
    """One array of right and wrong for each count, right in front."""
    return [np.arange(60) < count for count in counts]


def test_seeds_are_put_together_and_other_settings_are_not(tmp_path):
    for seed, right in enumerate(shares(30, 36)):
        write(tmp_path / "six" / f"seed{seed}" / "linear", right, seed, lr=1.0)
    write(tmp_path / "three" / "linear", shares(48)[0], 0, lr=2.0)
    (tmp_path / "three" / "settings.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    first, second = find_groups([tmp_path / "six", tmp_path / "three"])
    assert first.top1("joint") == [50, 60] and second.top1("joint") == [80]
    file = tmp_path / "six" / "seed0" / "linear" / "linear.json"
    assert len(find_groups([tmp_path / "six", file])[0].runs) == 2, "what is named twice is one run"
    with pytest.raises(InputError, match="expected results of evaluations in it, found none"):
        find_groups([tmp_path / "empty"])
    with pytest.raises(InputError, match="nowhere: expected the results"):
        find_groups([tmp_path / "nowhere"])


def test_folds_are_put_together_where_they_are_said_to_be(tmp_path, capsys):
    """Each has clips of its own, and the test is over all of them, in whatever order they come."""
    for run, counts in (("a", (30, 36, 42)), ("b", (48, 48, 48))):
        for fold, right in enumerate(shares(*counts)):
            names = np.array([f"{fold}-{i}" for i in range(60)])
            write(tmp_path / f"{run}{fold}" / "linear", right, 0, names, train=9 + fold, lr=ord(run))
    a, b = ([tmp_path / f"{run}{fold}" for fold in order] for run, order in (("a", "012"), ("b", "201")))
    assert len(find_groups([*a, *b])) == 6
    first, second = find_groups([*a, *b], folds=True)
    assert first.top1("joint") == [50, 60, 70] and second.top1("joint") == [80] * 3
    difference, p = paired_test(first, second, "joint")
    assert difference == pytest.approx(20) and p < 0.001
    assert main(["compare", *map(str, a), "--folds"]) == 0
    assert "60.0 ± 10.0" in capsys.readouterr().out


def test_with_one_run_each_the_test_is_mcnemar_s(tmp_path):
    """Of 60 clips 3 are right in the first alone and 12 in the second alone."""
    first, second = np.zeros((2, 60), bool)
    first[:23] = True
    second[3:35] = True
    write(tmp_path / "a", first, 0, lr=1.0)
    write(tmp_path / "b", second, 0, lr=2.0)
    difference, p = paired_test(*find_groups([tmp_path / "a", tmp_path / "b"]), "joint")
    assert difference == pytest.approx(100 * 9 / 60)
    assert p == pytest.approx(binomtest(3, 15).pvalue, abs=0.01)


def test_no_difference_and_other_clips(tmp_path):
    write(tmp_path / "a", shares(30)[0], 0, lr=1.0)
    write(tmp_path / "b", shares(30)[0], 0, lr=2.0)
    write(tmp_path / "c", shares(30)[0], 0, lr=3.0, names=np.array(["x"] * 60))
    same, alike, others = find_groups([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert paired_test(same, alike, "joint") == (0.0, 1.0)
    assert paired_test(same, others, "joint") is None and paired_test(same, alike, "bone") is None


def test_the_command_shows_means_differences_and_p(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    for seed, right in enumerate(shares(30, 36)):
        write(tmp_path / "six" / str(seed), right, seed, lr=1.0)
    write(tmp_path / "three", shares(58)[0], 0, lr=2.0)
    assert main(["compare", str(tmp_path / "six"), str(tmp_path / "three"), "--markdown"]) == 0
    head, rule, row, *_ = capsys.readouterr().out.splitlines()
    assert "2 runs" in head and "1 run " in head and rule == "| --- | ---: | ---: |"
    assert row.startswith("| joint | 55.0 ± 7.1 | 96.7 (+41.7, p 0.0001) |")
    assert main(["compare", str(tmp_path / "six")]) == 0
    assert "55.0 ± 7.1" in capsys.readouterr().out
    assert main(["compare"]) == 2


def test_each_is_tested_against_the_first_of_its_evaluation(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    write(tmp_path / "six" / "a", shares(30)[0], 0, lr=1.0)
    write(tmp_path / "six" / "b", shares(20)[0], 0, lr=1.0, probe="knn")
    write(tmp_path / "three" / "a", shares(60)[0], 0, lr=2.0)
    write(tmp_path / "three" / "b", shares(50)[0], 0, lr=2.0, probe="knn")
    assert main(["compare", str(tmp_path / "six"), str(tmp_path / "three"), "--markdown"]) == 0
    row = capsys.readouterr().out.splitlines()[2]
    assert row == "| joint | 50.0 | 33.3 | 100.0 (+50.0, p 0.0001) | 83.3 (+50.0, p 0.0001) |"


def test_other_clips_are_named_and_not_tested_against(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")
    write(tmp_path / "a", shares(30)[0], 0, lr=1.0)  # of before there was the setting
    write(tmp_path / "b", shares(36)[0], 1, lr=1.0, drop_copies=False)
    write(tmp_path / "c", shares(42)[0], 0, lr=1.0, drop_copies=True)
    write(tmp_path / "d", shares(48)[0], 0, lr=1.0, drop_copies=True, holdout="5,7")
    assert main(["compare", *(str(tmp_path / name) for name in "abcd"), "--markdown"]) == 0
    head, _, row, *_ = capsys.readouterr().out.splitlines()
    assert row == "| joint | 55.0 ± 7.1 | 70.0 | 80.0 |"
    copies = "none that is a training clip's copy"
    assert f"on d ({copies})" in head and f"on d (held-out training subjects 5,7; {copies})" in head
