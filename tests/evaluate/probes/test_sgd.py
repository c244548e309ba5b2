"""Linear classifiers trained as published, on made-up features."""

import json

import pytest
import torch
from torch import nn

from ikem_fast.evaluate import Results, result_table
from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.sgd import divergence, fit_sgd
from ikem_fast.evaluate.results import Curves
from ikem_fast.evaluate.results import score as count
from tests.evaluate.tables import text_of

OPTIONS = {"epochs": 30, "batch_size": 128, "lr": 3.0, "lr_milestones": (80,), "seed": 0}


def train(x, y, sets, classes=4, **changes):
    examples = Examples(x, y, classes)
    return fit_sgd(examples, sets, **{"watched": examples, **OPTIONS, **changes})


def score(x_train, y_train, x_test, y_test, classes, **changes):
    """Of the set of all modalities in x (N,P,H)."""
    sets = {"all": list(range(x_train.shape[1]))}
    watched = Examples(x_test, y_test, len(classes))
    fitted = train(x_train, y_train, sets, len(classes), watched=watched, **changes)["all"]
    more = {"curves": Curves(*fitted.curves), "diverged": fitted.diverged}
    return count(fitted.scores(x_test), y_test, tuple(classes), **more)


def test_separable_features_are_told_apart():
    y = torch.arange(200) % 4
    x = (3 * torch.eye(4)[y] + 0.1 * torch.randn(200, 4))[:, None]
    result = score(x[:100], y[:100], x[100:], y[100:], list("abcd"))
    assert result.top1 == result.top5 == 100
    assert result.confusion == (25 * torch.eye(4, dtype=torch.int64)).tolist()
    assert result.per_class == dict.fromkeys("abcd", 100.0)


def test_scores_are_those_of_the_confusion_matrix():
    y = torch.arange(300) % 7
    x = torch.randn(300, 2, 5)
    result = score(x[:150], y[:150], x[150:], y[150:], list("abcdefg"))
    confusion = torch.tensor(result.confusion).double()
    assert confusion.sum() == 150
    assert result.top1 == pytest.approx(100 * confusion.trace().item() / 150)
    assert result.top1 <= result.top5
    assert result.top1 == result.curves.top1[-1]
    for name, accuracy, row in zip("abcdefg", result.per_class.values(), confusion, strict=True):
        right = row["abcdefg".index(name)]
        assert accuracy == pytest.approx(100 * (right / row.sum()).item())


def test_a_set_is_the_mean_of_its_classifiers():
    """Trained together on the mean of S linear layers' outputs: the same as S layers written out."""
    torch.manual_seed(1)
    x, y = torch.randn(64, 3, 5), torch.arange(64) % 4
    result = score(x, y, x, y, list("abcd"), epochs=5, batch_size=64, lr=0.5, lr_milestones=(3,))

    layers = nn.ModuleList(nn.Linear(5, 4) for _ in range(3))
    weight = torch.empty(15, 4).normal_(0, 0.01, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for i, layer in enumerate(layers):
            layer.weight.copy_(weight[5 * i : 5 * i + 5].T)
            layer.bias.zero_()
    # One shared bias takes the gradient that S biases with outputs averaged take together, S times as fast.
    optimizer = torch.optim.SGD(
        [{"params": [layer.weight for layer in layers]}, {"params": [layer.bias for layer in layers]}],
        lr=0.5,
        momentum=0.9,
    )
    losses = []
    for epoch in range(5):
        optimizer.param_groups[0]["lr"] = 0.5 if epoch < 3 else 0.05
        optimizer.param_groups[1]["lr"] = 3 * optimizer.param_groups[0]["lr"]
        logits = sum(layer(x[:, i]) for i, layer in enumerate(layers)) / 3
        loss = nn.functional.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert result.curves.loss == pytest.approx(losses, rel=1e-4)


def test_sets_trained_side_by_side_are_those_trained_alone():
    x, y = torch.randn(50, 3, 5), torch.arange(50) % 4
    sets = {"0": [0], "0+2": [0, 2], "1+2": [1, 2], "2+0": [2, 0]}
    settings = {"epochs": 4, "batch_size": 16, "lr": 0.5, "seed": 3}
    together = train(x, y, sets, **settings)
    for name, columns in sets.items():
        alone = train(x, y, {name: columns}, **settings)[name]
        assert together[name].curves[0] == pytest.approx(alone.curves[0], rel=1e-5)
    for name, fitted in train(x.bfloat16(), y, sets, **settings).items():
        assert fitted.curves[0] == pytest.approx(together[name].curves[0], rel=0.02)


def test_a_class_without_test_clips_has_no_accuracy():
    y = torch.zeros(20, dtype=torch.int64)
    result = score(torch.randn(20, 1, 3), y, torch.randn(20, 1, 3), y, ["seen", "unseen"])
    assert result.per_class["unseen"] is None


@pytest.mark.parametrize(
    ("losses", "word"),
    [
        ([2.3, 1.0, 0.2], None),
        ([9.0, 5.0, 2.0], None),
        ([2.302, 2.303], None),
        ([2.3, 9.6, 9.6], "rose from 2.30 in the first epoch to 9.60"),
        ([9.0, 5.0, 4.0], "ended at 4.00, above the 2.30 of a guess"),
        ([2.3, float("nan"), float("nan")], "not finite from epoch 2"),
        ([2.3, float("inf"), 0.1], "not finite from epoch 2"),
    ],
)
def test_divergence_is_what_the_loss_says(losses, word):
    said = divergence(losses, classes=10)
    assert said is None if word is None else word in said


def test_a_probe_that_diverges_says_so(tmp_path):
    x, y = 30 * torch.randn(40, 1, 8), torch.arange(40) % 4
    wild = score(x, y, x, y, list("abcd"), epochs=5, batch_size=4, lr=100.0)
    assert wild.diverged and "training loss" in wild.diverged
    tame = score(x / 30, y, x / 30, y, list("abcd"), epochs=5, batch_size=4, lr=0.01)
    assert tame.diverged is None
    results = Results("Linear evaluation", "d", {}, {"train": 40, "test": 40}, list("abcd"),
                      {"wild": wild, "tame": tame})  # fmt: skip
    results.write(tmp_path / "linear.json")
    stored = json.loads((tmp_path / "linear.json").read_text())["sets"]
    assert stored["wild"]["diverged"] == wild.diverged and "diverged" not in stored["tame"]
    assert results.warnings == [f"wild: {wild.diverged}"]
    assert "wild (diverged)" in text_of(result_table(results))


def test_the_kept_head_is_the_classifier():
    x, y = torch.randn(60, 3, 5), torch.arange(60) % 4
    fitted = train(x, y, {"both": [0, 2]}, epochs=5, lr=0.5)["both"]
    written_out = x[:, [0, 2]].flatten(1) @ fitted.head.weight / 2 + fitted.head.bias
    torch.testing.assert_close(fitted.scores(x), written_out)
    torch.testing.assert_close(fitted.head.scores(x[:, [0, 2]]), written_out)


def test_watched_clips_change_nothing():
    x, y = torch.randn(40, 1, 5), torch.arange(40) % 4
    seen = train(x, y, {"a": [0]}, epochs=3)["a"]
    unseen = train(x, y, {"a": [0]}, epochs=3, watched=None)["a"]
    assert torch.equal(seen.head.weight, unseen.head.weight)
    assert len(seen.curves[1]) == 3 and unseen.curves[1] == []
