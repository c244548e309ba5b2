"""What says that nothing is learned: figures where the right ones are known, and what runs leave of them."""

import json

import numpy as np
import pytest
import torch

from ikem_fast.nn import IKEM
from ikem_fast.train import DistillConfig, PretrainConfig, distill, pretrain
from ikem_fast.train.budget import Progress
from ikem_fast.train.health import ROWS, Health, effective_rank, nearest_of_class
from ikem_fast.train.task import Seen
from ikem_fast.train.tasks.pretrain import Pretraining
from tests.train.tiny import MODEL, TINY


def at(share, *, over=False):
    return Progress(steps=1, epoch=1, batch=0, share=share, over=over)


def task(method="ikem"):
    return Pretraining(IKEM(**vars(MODEL)), MODEL, 2, method=method)


def test_the_rank_is_the_number_of_independent_features():
    basis = torch.randn(3, 8)
    flat = torch.randn(400, 3) @ torch.linalg.qr(basis.T)[0].T
    rank = effective_rank(torch.stack([flat + 5, torch.randn(400, 8), torch.full((400, 8), 2.0)]))
    assert rank[0] == pytest.approx(3, abs=0.1) and rank[1] == pytest.approx(8, abs=0.1) and rank[2] == 1


@pytest.mark.parametrize("rows", [3, 40])
def test_the_rank_is_the_same_of_few_rows_and_of_many_features(rows):
    x = torch.randn(1, rows, 10)
    values = torch.linalg.svdvals(x - x.mean(1, keepdim=True))[0]
    shares = values / values.sum()
    expected = torch.special.entr(shares).sum().exp()
    torch.testing.assert_close(effective_rank(x)[0], expected, rtol=1e-3, atol=1e-3)


def test_neighbors_are_of_other_clips():
    labels = np.array([0, 0, 1, 1])
    near = torch.tensor([[[0.0, 1.0], [0.1, 1.0], [1.0, 0.0], [1.0, 0.1]]])
    assert nearest_of_class(near, np.arange(4), labels) == [100.0]
    assert nearest_of_class(near[:, [0, 2, 1, 3]], np.arange(4), labels) == [0.0]
    twice = near[:, [0, 0, 2]]  # of clip 0, which is not its own neighbor
    assert nearest_of_class(twice, np.array([0, 0, 2]), np.array([0, 0, 1])) == [0.0]
    assert nearest_of_class(near, np.arange(4), np.zeros(4)) == [None]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("skeletonclr", ("contrast",)),
        ("crossclr", ("cross_modal_contrast",)),
        ("exchange", ("implicit_exchange",)),
        ("ikem", ("cross_modal_contrast", "implicit_exchange")),
    ],
)
def test_chance_is_the_loss_where_all_similarities_are_zero(method, expected):
    """Of the model itself, with features at right angles to one another and to the bank."""
    from ikem_fast import ops

    D, P, K = 32, 2, 8
    eye = torch.eye(D)
    q, k, queue = (eye[first : first + n].expand(P, -1, -1) for first, n in ((0, 4), (4, 4), (8, K)))
    z = torch.zeros(P, 4, P * D)
    z[..., 31] = 1
    losses = {
        "contrast": ops.info_nce(q, k, queue),
        "cross_modal_contrast": ops.cross_modal_contrast(q, k, queue),
        "implicit_exchange": ops.implicit_exchange(z, k, queue),
    }
    phase = "contrast" if method == "skeletonclr" else "exchange"
    chance = task(method).chance(phase)
    torch.testing.assert_close(sum(losses[name] for name in expected), torch.full((P,), chance))


def test_what_is_kept_is_the_last_features_with_their_clips():
    one = task()
    health = Health(one, np.arange(7) % 2)
    features = torch.randn(2, 3 * ROWS // 2, 4)
    places = np.arange(3 * ROWS // 2) % 7
    for part in np.split(np.arange(3 * ROWS // 2), 16):
        one.seen = Seen(features[:, part, :2], features[:, part, :2], features[:, part])
        health.keep(places[part])
    where = np.concatenate([np.arange(ROWS, 3 * ROWS // 2), np.arange(ROWS // 2, ROWS)])
    torch.testing.assert_close(health.rows, features[:, where])
    assert (health.places == places[where]).all()


def look(features, losses, *, progress, before=None):
    one = task()
    health = Health(one, np.arange(len(features)) % 2)
    health.follow(at(0.0), "contrast", before or losses)
    one.seen = Seen(
        torch.randn(2, len(features), 2), torch.randn(2, len(features), 2), features.expand(2, -1, -1)
    )
    health.keep(np.arange(len(features)))
    return health, health.look(progress, "contrast", losses)


def test_warnings_come_once_after_a_third_of_the_run_and_say_why():
    chance = task().chance("contrast")
    good, flat = torch.randn(64, 4), torch.randn(64, 1) * torch.ones(1, 4)
    learning = {"joint": 0.5 * chance, "motion": 0.5 * chance}
    higher = {name: 1.5 * loss for name, loss in learning.items()}
    for features, losses, before, said in (
        (good, learning, higher, ()),
        (good, {**learning, "motion": chance}, higher, ("motion stands at chance",)),
        (good, learning, {**higher, "joint": 0.5 * chance}, ("joint does not learn",)),
        (flat, learning, higher, ("joint has collapsed", "motion has collapsed")),
    ):
        health, report = look(features, losses, progress=at(0.5), before=before)
        assert len(report.warnings) == len(said)
        assert all(w.startswith(s) for w, s in zip(report.warnings, said, strict=True)), report.warnings
        assert health.look(at(0.6), "contrast", losses).warnings == ()
        assert look(features, losses, progress=at(0.3), before=before)[1].warnings == ()


def test_runs_leave_figures_in_the_metrics_and_on_the_terminal(tmp_path, capsys):
    common = {"data": TINY, "batch_size": 2, "lr": 0.01, "device": "cpu", "max_steps": 3}
    pretrain(PretrainConfig(out=tmp_path / "teacher", model=MODEL, exchange_from=2, **common))
    distill(
        DistillConfig(out=tmp_path / "student", teacher=tmp_path / "teacher", students=("motion",), **common)
    )
    for run, names in (("teacher", ["joint", "motion"]), ("student", ["motion"])):
        records = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        figures = records[-1]["health"]
        assert list(figures) == names
        for figure in figures.values():
            assert -1 <= figure["negative"] <= 1 and -1 <= figure["positive"] <= 1
            assert 1 <= figure["rank"] <= 4 and 0 <= figure["knn"] <= 100 and figure["chance"] > 2
    assert "(chance " in capsys.readouterr().err


def test_a_new_phase_is_told_with_its_own_chance(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ikem_fast.train.log.QUIET", 0.0)
    common = {"data": TINY, "batch_size": 2, "lr": 0.01, "device": "cpu", "max_steps": 7}  # 4 epochs
    pretrain(PretrainConfig(out=tmp_path, model=MODEL, exchange_from=3, **common))
    lines = [line for line in capsys.readouterr().err.splitlines() if "(chance " in line]
    chances = [sum(task().chance(phase) for _ in range(2)) for phase in ("contrast", "exchange")]
    for phase, line in zip((0, 0, 1, 1), lines, strict=True):
        assert f"(chance {chances[phase]:.3f})" in line


def test_nothing_in_a_run_depends_on_its_health(tmp_path, monkeypatch):
    config = {"data": TINY, "batch_size": 2, "lr": 0.01, "device": "cpu", "max_steps": 3, "model": MODEL}
    pretrain(PretrainConfig(out=tmp_path / "with", **config))
    monkeypatch.setattr(Health, "due", lambda self, progress, phase: False)
    pretrain(PretrainConfig(out=tmp_path / "without", **config))
    with_, without = (
        [json.loads(line)["losses"] for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("with", "without")
    )
    assert with_ == without
