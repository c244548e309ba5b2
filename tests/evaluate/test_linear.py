"""Linear evaluation: the classifier on made-up features, and the whole of it on tiny data."""

import json

import numpy as np
import pytest
import torch

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate import (
    LinearConfig,
    RawConfig,
    evaluate_linear,
    evaluate_raw,
    read_results,
    result_table,
)
from ikem_fast.evaluate.features import (
    estimate_statistics,
    extract_features,
    held_dtype,
    load_encoders,
)
from ikem_fast.evaluate.probes.base import Examples
from ikem_fast.evaluate.probes.choice import probe_name
from ikem_fast.evaluate.probes.ridge import fit_ridge
from ikem_fast.evaluate.render.picture import draw
from ikem_fast.evaluate.results import Results, read_scores, score
from ikem_fast.nn.encoders.tcn import smoothing_matrix
from ikem_fast.train import ModelConfig, PretrainConfig, load_checkpoint, pretrain
from tests.evaluate.tables import text_of
from tests.helpers import ONE_BLOCK

MODEL = ModelConfig(feature_dim=8, queue_size=16, hidden_channels=4, encoder=ONE_BLOCK)


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


def test_features_are_held_in_bfloat16_where_products_of_it_are_fast():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert held_dtype(True, gpu) == torch.bfloat16
    assert {held_dtype(True, cpu), held_dtype(False, cpu), held_dtype(False, gpu)} == {torch.float32}


def test_trained_and_untrained_encoders_have_statistics_of_the_same_kind(tiny_dataset, checkpoint, tmp_path):
    """Estimated anew by default, for both; those of training are another choice, and give others."""
    options = {
        "data": tiny_dataset,
        "checkpoint": checkpoint,
        "probe": "sgd",
        "epochs": 1,
        "baselines": False,
    }
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
    options = {"data": tiny_dataset, "checkpoint": checkpoint, "untrained_seeds": 1}
    results = evaluate_linear(config(tmp_path, **options))
    trio, six = "joint+motion+bone", "+".join(MODEL.modalities)
    assert list(results.sets) == [*MODEL.modalities, trio, six]
    assert read_results(tmp_path / "linear.json") == results
    assert (tmp_path / "linear.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.glob("*.partial"))
    with np.load(tmp_path / "linear.npz", allow_pickle=False) as heads:
        assert heads[f"{trio}.weight"].shape == (96, 12) and heads[f"{trio}.bias"].shape == (12,)
    again = evaluate_linear(config(tmp_path / "b", **options))
    assert again.sets == results.sets and again.baselines["raw"] == results.baselines["raw"]


def test_names_are_shown_as_they_are_and_obeyed_by_nobody(tmp_path):
    """Markup of rich, a formula of matplotlib that is none, a terminal's escapes."""
    classes = ["[/x]", "$\\foo{$", "\x1b[31mred"]
    x, y = torch.randn(30, 1, 4), torch.arange(30) % 3
    fitted = fit_ridge(Examples(x, y, 3), {"joint": [0]})["joint"]
    result = score(fitted.scores(x), y, tuple(classes))
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


def test_the_probe_is_that_of_the_size_unless_it_is_chosen(small, tmp_path):
    options = {**small, "epochs": 2, "sets": "joint"}
    assert LinearConfig.probe is None and probe_name(config(tmp_path), 9_999) == "ridge"
    assert probe_name(config(tmp_path), 10_000) == "sgd"
    for probe in ("ridge", "logistic", "sgd"):
        results = evaluate_linear(config(tmp_path / probe, probe=probe, baselines=False, **options))
        assert results.probe == probe and f"probe: {probe}, 24 training clips" in text_of(
            result_table(results)
        )
        assert (results.sets["joint"].curves is not None) == (probe == "sgd")
        assert list(results.baselines) == ["chance"]


def test_outputs_of_heads_are_judged_if_asked_for(small, tmp_path):
    results = evaluate_linear(
        config(tmp_path, **small, features="output", sets="joint",
               baselines=False)
    )  # fmt: skip
    assert results.settings["features"] == "output"
    with np.load(tmp_path / "linear.npz", allow_pickle=False) as heads:
        assert heads["joint.weight"].shape == (4, 12)


def test_chance_raw_and_untrained_stand_beside_the_pretrained(small, tmp_path):
    options = {**small, "sets": "joint,joint+bone"}
    results = evaluate_linear(config(tmp_path, untrained_seeds=2, **options))
    assert list(results.baselines) == ["chance", "raw", "untrained"]
    assert results.baselines["chance"].top1 == {name: pytest.approx(100 / 12) for name in results.sets}
    assert results.baselines["untrained"].runs == 2
    raw = evaluate_raw(RawConfig(data=small["data"], out=tmp_path, sets=options["sets"]))
    assert results.baselines["raw"].top1 == {name: one.top1 for name, one in raw.sets.items()}
    options |= {"untrained": True, "baselines": False}
    drawn = [
        evaluate_linear(config(tmp_path / "untrained", seed=seed, **options)).sets["joint"].top1
        for seed in (0, 1)
    ]
    assert results.baselines["untrained"].top1["joint"] == pytest.approx(sum(drawn) / 2)
    shown = text_of(result_table(results))
    assert [column for column in ("chance", "raw", "untrained", "pretrained") if column not in shown] == []
    assert read_results(tmp_path / "linear.json") == results


def test_scores_of_every_test_clip_are_kept(tiny_dataset, checkpoint, tmp_path):
    results = evaluate_linear(config(tmp_path, data=tiny_dataset, checkpoint=checkpoint, baselines=False))
    scores, test = read_scores(tmp_path / "linear_scores.npz"), open_dataset(tiny_dataset)["test"]
    assert scores.labels.tolist() == test.labels.tolist() and scores.names.tolist() == test.names.tolist()
    for name, result in results.sets.items():
        assert 100 * (scores.sets[name].argmax(1) == scores.labels).mean() == pytest.approx(result.top1)


def test_results_of_version_1_are_read(tmp_path):
    """As the first version wrote them: no probe, no baselines."""
    one = {"top1": 50.0, "top5": 100.0, "per_class": {"a": 50.0}, "confusion": [[1]],
           "curves": {"loss": [1.0], "top1": [50.0]}}  # fmt: skip
    content = {"format": "ikem-fast results", "version": 1, "evaluation": "Linear evaluation",
               "dataset": "d", "settings": {}, "clips": {"train": 1, "test": 2}, "classes": ["a"],
               "sets": {"joint": one}}  # fmt: skip
    (tmp_path / "linear.json").write_text(json.dumps(content))
    results = read_results(tmp_path / "linear.json")
    assert results.sets["joint"].curves.loss == [1.0] and results.baselines == {}
    assert "50.0" in text_of(result_table(results))
    (tmp_path / "linear.json").write_text(json.dumps({**content, "version": 3}))
    with pytest.raises(InputError, match="version 3"):
        read_results(tmp_path / "linear.json")


def test_held_out_training_subjects_take_the_place_of_test_clips(small, tmp_path):
    whole = open_dataset(small["data"])["train"]
    subjects = sorted(set(whole.subjects.tolist()))[:1]
    options = {**small, "baselines": False, "sets": "joint"}
    results = evaluate_linear(config(tmp_path, holdout=", ".join(subjects), **options))
    out = np.isin(whole.subjects, subjects)
    assert results.clips == {"train": int((~out).sum()), "test": int(out.sum())}
    assert read_scores(tmp_path / "linear_scores.npz").names.tolist() == whole.names[out].tolist()
    assert "held-out training subjects" in text_of(result_table(results))
    with pytest.raises(InputError, match=r"expected training subjects .* found nobody"):
        evaluate_linear(config(tmp_path, holdout="nobody", **options))


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"sets": {"joint": {}}}', '{"sets": 3}'])
def test_what_are_no_results_is_named(content, tmp_path):
    (tmp_path / "linear.json").write_text(content)
    with pytest.raises(InputError, match=r"linear.json: expected the results of an evaluation"):
        read_results(tmp_path / "linear.json")


def test_chosen_sets(tiny_dataset, checkpoint, tmp_path):
    options = {"data": tiny_dataset, "checkpoint": checkpoint, "baselines": False}
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
    smoothed = torch.einsum("st,nctvm->ncsvm", smoothing_matrix(clips.shape[2], 2.0, clips), clips)
    coordinates = smoothed.permute(3, 1, 0, 2, 4).flatten(0, 1).flatten(1)
    torch.testing.assert_close(first.running_mean, coordinates.mean(1), rtol=1e-3, atol=1e-4)
    features = extract_features(encoders, dataset["train"], dataset.layout, device="cpu")
    assert features.shape == (len(dataset["train"]), 6, 32) and features.isfinite().all()
    assert features.std(0).min() > 1e-4, "an untrained encoder must still tell clips apart"


def test_a_model_of_another_layout_is_refused(tiny_dataset, checkpoint, shared, tmp_path):
    from ikem_fast.data.formats.npz import prepare_npz

    other = tmp_path / "utd"
    prepare_npz(other, shared / "data" / "utd_mhad.npz", "utd-mhad", "subject=1,3,5,7")
    with pytest.raises(InputError, match="'utd-mhad', found one for 'ntu-rgb\\+d'"):
        evaluate_linear(config(tmp_path, data=other, checkpoint=checkpoint))
