"""Linear evaluation: the classifier on made-up features, and the whole of it on tiny data."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate import LinearConfig, evaluate_linear
from ikem_fast.evaluate.features import estimate_statistics, extract_features, load_encoders
from ikem_fast.evaluate.linear import train_and_score
from ikem_fast.evaluate.protocol import FrozenFeatures
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain

MODEL = ModelConfig(feature_dim=8, queue_size=16, hidden_channels=4, hidden_dim=12)


@pytest.fixture(scope="module")
def checkpoint(tiny_dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("linear") / "teacher"
    return pretrain(
        PretrainConfig(data=tiny_dataset, out=out, epochs=1, batch_size=8, device="cpu", model=MODEL)
    )


def config(tmp_path, **changes):
    return LinearConfig(
        **{"data": tmp_path, "checkpoint": tmp_path, "out": tmp_path, "epochs": 30, **changes}
    )


def score(x_train, y_train, x_test, y_test, classes, tmp_path, **changes):
    """Of the set of all modalities in x (N,P,H)."""
    sets = {"all": list(range(x_train.shape[1]))}
    features = FrozenFeatures(SimpleNamespace(classes=classes), sets, x_train, y_train, x_test, y_test)
    return train_and_score(features, config(tmp_path, **changes))["all"]


def test_separable_features_are_told_apart(tmp_path):
    y = torch.arange(200) % 4
    x = (3 * torch.eye(4)[y] + 0.1 * torch.randn(200, 4))[:, None]
    result = score(x[:100], y[:100], x[100:], y[100:], list("abcd"), tmp_path)
    assert result["top1"] == result["top5"] == 100
    assert result["confusion"] == (25 * torch.eye(4, dtype=torch.int64)).tolist()
    assert result["per_class"] == dict.fromkeys("abcd", 100.0)


def test_scores_are_those_of_the_confusion_matrix(tmp_path):
    y = torch.arange(300) % 7
    x = torch.randn(300, 2, 5)
    result = score(x[:150], y[:150], x[150:], y[150:], list("abcdefg"), tmp_path)
    confusion = torch.tensor(result["confusion"]).double()
    assert confusion.sum() == 150
    assert result["top1"] == pytest.approx(100 * confusion.trace().item() / 150)
    assert result["top1"] <= result["top5"]
    assert result["top1"] == result["curves"]["top1"][-1]
    for name, accuracy, row in zip("abcdefg", result["per_class"].values(), confusion, strict=True):
        right = row["abcdefg".index(name)]
        assert accuracy == pytest.approx(100 * (right / row.sum()).item())


def test_a_set_is_the_mean_of_its_classifiers(tmp_path):
    """Trained together on the mean of S linear layers' outputs: the same as S layers written out."""
    torch.manual_seed(1)
    x, y = torch.randn(64, 3, 5), torch.arange(64) % 4
    result = score(x, y, x, y, list("abcd"), tmp_path, epochs=5, batch_size=64, lr=0.5, lr_milestones=(3,))

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
    assert result["curves"]["loss"] == pytest.approx(losses, rel=1e-4)


def test_sets_trained_side_by_side_are_those_trained_alone(tmp_path):
    x, y = torch.randn(50, 3, 5), torch.arange(50) % 4
    sets = {"0": [0], "0+2": [0, 2], "1+2": [1, 2], "2+0": [2, 0]}
    data = (SimpleNamespace(classes=list("abcd")), x, y, x, y)
    settings = config(tmp_path, epochs=4, batch_size=16, lr=0.5, seed=3)
    together = train_and_score(FrozenFeatures(data[0], sets, *data[1:]), settings)
    for name, columns in sets.items():
        alone = train_and_score(FrozenFeatures(data[0], {name: columns}, *data[1:]), settings)[name]
        assert together[name]["curves"]["loss"] == pytest.approx(alone["curves"]["loss"], rel=1e-5)
    half = FrozenFeatures(data[0], sets, x.bfloat16(), y, x.bfloat16(), y)
    for name, result in train_and_score(half, settings).items():
        assert result["curves"]["loss"] == pytest.approx(together[name]["curves"]["loss"], rel=0.02)


def test_a_class_without_test_clips_has_no_accuracy(tmp_path):
    y = torch.zeros(20, dtype=torch.int64)
    result = score(torch.randn(20, 1, 3), y, torch.randn(20, 1, 3), y, ["seen", "unseen"], tmp_path)
    assert result["per_class"]["unseen"] is None


def test_results_and_picture_are_written(tiny_dataset, checkpoint, tmp_path):
    report = evaluate_linear(config(tmp_path, data=tiny_dataset, checkpoint=checkpoint, epochs=2))
    trio, six = "joint+motion+bone", "+".join(MODEL.modalities)
    assert list(report["sets"]) == [*MODEL.modalities, trio, six]
    assert json.loads((tmp_path / "linear.json").read_text()) == report
    assert (tmp_path / "linear.png").read_bytes().startswith(b"\x89PNG")
    again = evaluate_linear(config(tmp_path / "b", data=tiny_dataset, checkpoint=checkpoint, epochs=2))
    assert again["sets"] == report["sets"]


def test_chosen_sets(tiny_dataset, checkpoint, tmp_path):
    options = {"data": tiny_dataset, "checkpoint": checkpoint, "epochs": 1}
    report = evaluate_linear(config(tmp_path, sets="bone, joint+bone", **options))
    assert list(report["sets"]) == ["bone", "joint+bone"]
    with pytest.raises(InputError, match="'elbow' in 'joint\\+elbow'"):
        evaluate_linear(config(tmp_path, sets="joint+elbow", **options))


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
