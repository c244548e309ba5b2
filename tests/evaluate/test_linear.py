"""Linear evaluation: the classifier on made-up features, and the whole of it on tiny data."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate import LinearConfig, Results, evaluate_linear, read_results, result_table
from ikem_fast.evaluate.features import FrozenFeatures, estimate_statistics, extract_features, load_encoders
from ikem_fast.evaluate.probes.linear import divergence, train_classifiers
from ikem_fast.evaluate.render.picture import draw
from ikem_fast.train import ModelConfig, PretrainConfig, load_checkpoint, pretrain

MODEL = ModelConfig(feature_dim=8, queue_size=16, hidden_channels=4, hidden_dim=12)


@pytest.fixture(scope="module")
def checkpoint(tiny_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("linear") / "teacher"
    return pretrain(
        PretrainConfig(data=tiny_dataset, out=out, epochs=1, batch_size=8, device="cpu", model=MODEL)
    )


def text_of(table):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    return console.export_text()


def config(tmp_path, **changes):
    return LinearConfig(
        **{"data": tmp_path, "checkpoint": tmp_path, "out": tmp_path, "epochs": 30, **changes}
    )


def train(features, **changes):
    options = {"epochs": 30, "batch_size": 128, "lr": 3.0, "lr_milestones": (80,), "seed": 0, **changes}
    return train_classifiers(features, **options)


def score(x_train, y_train, x_test, y_test, classes, **changes):
    """Of the set of all modalities in x (N,P,H)."""
    sets = {"all": list(range(x_train.shape[1]))}
    features = FrozenFeatures(SimpleNamespace(classes=classes), sets, x_train, y_train, x_test, y_test)
    return train(features, **changes)[0]["all"]


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
    data = (SimpleNamespace(classes=list("abcd")), x, y, x, y)
    settings = {"epochs": 4, "batch_size": 16, "lr": 0.5, "seed": 3}
    together, _ = train(FrozenFeatures(data[0], sets, *data[1:]), **settings)
    for name, columns in sets.items():
        alone = train(FrozenFeatures(data[0], {name: columns}, *data[1:]), **settings)[0][name]
        assert together[name].curves.loss == pytest.approx(alone.curves.loss, rel=1e-5)
    half = FrozenFeatures(data[0], sets, x.bfloat16(), y, x.bfloat16(), y)
    for name, result in train(half, **settings)[0].items():
        assert result.curves.loss == pytest.approx(together[name].curves.loss, rel=0.02)


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


def test_trained_and_untrained_encoders_have_statistics_of_the_same_kind(tiny_dataset, checkpoint, tmp_path):
    """Estimated anew by default, for both; those of training are another choice, and give others."""
    options = {"data": tiny_dataset, "checkpoint": checkpoint, "epochs": 1, "device": "cpu"}
    found = {
        way: evaluate_linear(config(tmp_path / way, statistics=way, **options))
        for way in ("estimated", "running")
    }
    losses = {way: results.sets["joint"].curves.loss for way, results in found.items()}
    assert losses["estimated"] != losses["running"]
    assert found["estimated"].settings["statistics"] == LinearConfig(**options, out=".").statistics
    assert "estimated anew" in text_of(result_table(found["estimated"]))
    assert "that training left" in text_of(result_table(found["running"]))


def test_results_heads_and_picture_are_written(tiny_dataset, checkpoint, tmp_path):
    results = evaluate_linear(config(tmp_path, data=tiny_dataset, checkpoint=checkpoint, epochs=2))
    trio, six = "joint+motion+bone", "+".join(MODEL.modalities)
    assert list(results.sets) == [*MODEL.modalities, trio, six]
    assert read_results(tmp_path / "linear.json") == results
    assert (tmp_path / "linear.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.partial"))
    with np.load(tmp_path / "linear.npz", allow_pickle=False) as heads:
        assert heads[f"{trio}.weight"].shape == (36, 12) and heads[f"{trio}.bias"].shape == (12,)
    again = evaluate_linear(config(tmp_path / "b", data=tiny_dataset, checkpoint=checkpoint, epochs=2))
    assert again.sets == results.sets


def test_the_kept_head_is_the_classifier():
    x, y = torch.randn(60, 2, 5), torch.arange(60) % 4
    features = FrozenFeatures(SimpleNamespace(classes=list("abcd")), {"both": [0, 1]}, x, y, x, y)
    results, heads = train(features, epochs=5, lr=0.5)
    scores = x.flatten(1) @ heads["both"].weight / 2 + heads["both"].bias
    right = (scores.argmax(1) == y).double().mean().item()
    assert results["both"].top1 == pytest.approx(100 * right)


def test_names_are_shown_as_they_are_and_obeyed_by_nobody(tmp_path):
    """Markup of rich, a formula of matplotlib that is none, a terminal's escapes."""
    classes = ["[/x]", "$\\foo{$", "\x1b[31mred"]
    x, y = torch.randn(30, 1, 4), torch.arange(30) % 3
    result = score(x, y, x, y, classes, epochs=1)
    results = Results("Linear evaluation", "[/x]$\\foo{$\x1b[31m", {}, {"train": 30, "test": 30}, classes,
                      {"joint": result})  # fmt: skip
    shown = text_of(result_table(results))
    assert "[/x]$\\foo{$" in shown and "\x1b" not in shown
    draw(results, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_weights_that_are_not_finite_are_refused(tiny_dataset, checkpoint, tmp_path):
    state = load_checkpoint(checkpoint)
    state["model"]["query_encoders.bone.fc.0.weight"][0, 0] = torch.nan
    torch.save(state, tmp_path / "spoiled.pt")
    with pytest.raises(
        InputError, match=r"spoiled.pt: expected finite weights, found others in bone.fc.0.weight"
    ):
        evaluate_linear(config(tmp_path, data=tiny_dataset, checkpoint=tmp_path / "spoiled.pt"))
    assert not (tmp_path / "linear.json").exists()


def test_features_that_are_not_finite_are_refused(tiny_dataset, checkpoint, tmp_path, monkeypatch):
    features = torch.randn(24, 6, 12)
    features[3, 2], features[5, 2] = torch.nan, torch.inf
    monkeypatch.setattr("ikem_fast.evaluate.features.extract_features", lambda *args, **kwargs: features)
    with pytest.raises(InputError, match=r"finite features, found others in 2 of 24 clips, of bone;"):
        evaluate_linear(config(tmp_path, data=tiny_dataset, checkpoint=checkpoint, statistics="running"))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"sets": {"joint": {}}}', '{"sets": 3}'])
def test_what_are_no_results_is_named(content, tmp_path):
    (tmp_path / "linear.json").write_text(content)
    with pytest.raises(InputError, match=r"linear.json: expected the results of an evaluation"):
        read_results(tmp_path / "linear.json")


def test_chosen_sets(tiny_dataset, checkpoint, tmp_path):
    options = {"data": tiny_dataset, "checkpoint": checkpoint, "epochs": 1}
    results = evaluate_linear(config(tmp_path, sets="bone, joint+bone", **options))
    assert list(results.sets) == ["bone", "joint+bone"]
    for sets, wrong in (
        ("joint+elbow", "'elbow' in 'joint\\+elbow'"),
        ("bone+bone", "'bone' in 'bone\\+bone'"),
    ):
        with pytest.raises(InputError, match=wrong):
            evaluate_linear(config(tmp_path, sets=sets, **options))


def test_untrained_encoders_have_fitting_statistics(tiny_dataset, checkpoint):
    dataset = open_dataset(tiny_dataset)
    encoders = load_encoders(checkpoint, dataset, untrained_seed=0)
    trained = load_encoders(checkpoint, dataset)
    assert not torch.equal(encoders["joint"].fc[0].weight, trained["joint"].fc[0].weight)
    estimate_statistics(encoders, dataset["train"], dataset.layout, device="cpu")
    first = encoders["joint"].data_bn
    clips = torch.tensor(dataset["train"].clips)
    coordinates = clips.permute(3, 1, 0, 2, 4).flatten(0, 1).flatten(1)
    torch.testing.assert_close(first.running_mean, coordinates.mean(1), rtol=1e-3, atol=1e-4)
    features = extract_features(encoders, dataset["train"], dataset.layout, device="cpu")
    assert features.shape == (len(dataset["train"]), 6, 12) and features.isfinite().all()
    assert features.std(0).min() > 1e-4, "an untrained encoder must still tell clips apart"


def test_a_model_of_another_layout_is_refused(tiny_dataset, checkpoint, shared, tmp_path):
    from ikem_fast.data.formats.npz import prepare_npz

    other = tmp_path / "utd"
    prepare_npz(other, shared / "data" / "utd_mhad.npz", "utd-mhad", "subject=1,3,5,7")
    with pytest.raises(InputError, match="'utd-mhad', found one for 'ntu-rgb\\+d'"):
        evaluate_linear(config(tmp_path, data=other, checkpoint=checkpoint))
