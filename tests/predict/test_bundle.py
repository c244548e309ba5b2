"""A bundle holds all that answers, comes back as it was, and is not believed where it is crafted."""

import hashlib
import json
import os
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import ikem_fast
from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate import read_scores
from ikem_fast.nn.build import build_encoders
from ikem_fast.nn.config import ModelConfig
from ikem_fast.nn.recognizer import LinearHead, Recognizer
from ikem_fast.runtime.bundle import Description, read_bundle, write_bundle
from ikem_fast.skeleton import Layout
from tests.helpers import ONE_BLOCK

ALL = "joint+motion+bone"


def test_what_evaluation_measured_is_what_the_bundle_answers(run, bundle):
    recognizer, description = read_bundle(bundle)
    test = open_dataset(run.parent / "data")["test"]
    scores = read_scores(run / "linear" / "linear_scores.npz")
    clips, frames = torch.tensor(np.array(test.clips)), torch.tensor(np.array(test.frames))
    for name in ("joint", ALL):
        probabilities, features = recognizer(clips, frames, name)
        calm = torch.tensor(scores.sets[name]) / recognizer.heads[name].temperature
        torch.testing.assert_close(probabilities, calm.softmax(1), atol=1e-5, rtol=0)
        assert features.shape == (len(test), len(name.split("+")), 16)
        right = (probabilities.argmax(1).numpy() == test.labels).mean()
        assert 100 * right == pytest.approx(description.results["sets"][name]["top1"])


@pytest.mark.parametrize("where", ["", "linear", "linear/bundle"])
def test_a_run_an_evaluation_and_a_bundle_open_alike(run, where):
    found = ikem_fast.load(run / where)
    assert found.folder == run / "linear" / "bundle"
    assert found.sets == ("joint", "motion", "bone", ALL) and len(found.classes) == 12


def test_the_latest_of_several_evaluations_is_taken(run, bundle, tmp_path):
    for number, name in enumerate(("b", "a")):
        shutil.copytree(bundle, tmp_path / name / "bundle")
        config = tmp_path / name / "bundle" / "config.json"
        config.touch()
        stamp = 1_700_000_000 + number
        os.utime(config, (stamp, stamp))
    assert ikem_fast.load(tmp_path).folder == tmp_path / "a" / "bundle"


def test_a_checkpoint_alone_gives_features_and_no_labels(run, tmp_path):
    shutil.copy(run / "checkpoint.pt", tmp_path)
    clip = np.random.default_rng(0).normal(size=(3, 20, 25, 2))
    for path in (tmp_path, tmp_path / "checkpoint.pt"):
        prediction = ikem_fast.load(path).predict(clip)
        assert prediction.labels is None and prediction.probabilities is None
        assert prediction.features.shape == (1, 3, 16) and np.isfinite(prediction.features).all()


def test_nothing_there_is_one_message(tmp_path):
    with pytest.raises(InputError, match="expected a bundle, a run's folder or a checkpoint"):
        ikem_fast.load(tmp_path)


def test_a_bundle_is_written_again_to_the_same_bytes(bundle, tmp_path):
    ikem_fast.load(bundle).save(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (bundle / name).read_bytes()


def test_nothing_of_this_machine_is_in_it(run, bundle):
    for name in ("config.json", "README.md"):
        text = (bundle / name).read_text(encoding="utf-8")
        assert str(run.parent) not in text and "/tmp" not in text


def test_the_card_has_the_measured_table(bundle):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    top1 = json.loads((bundle / "config.json").read_text())["results"]["sets"][ALL]["top1"]
    assert card.startswith("---\nlibrary_name: ikem-fast\n")
    assert f"| joint + motion + bone | {top1:.1f} |" in card


def test_a_layout_of_ones_own_comes_along(tmp_path):
    layout = Layout("stick", ("hip", "head", "right", "left"), (-1, 0, 1, 1), (0, 2, 3), (2, 3))
    model = ModelConfig(feature_dim=4, hidden_channels=4, encoder=ONE_BLOCK)
    encoders = build_encoders(model, layout, ("bone",), bodies=1)
    head = LinearHead(torch.randn(encoders["bone"].hidden_dim, 2), torch.zeros(2), 0.5)
    description = Description("mine", layout, 1, 10, ("a", "b"), ("bone",), model)
    write_bundle(tmp_path, Recognizer(encoders, layout, {"bone": head}), description)
    found = ikem_fast.load(tmp_path)
    assert found.description.layout == layout
    assert found.predict(np.random.default_rng(0).normal(size=(3, 9, 4, 1))).probabilities.shape == (1, 2)


def edited(bundle, folder, edit):
    shutil.copytree(bundle, folder)
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    edit(content)
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def nested(depth):
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c.update(format="else"), "expected format 'ikem-fast bundle', found 'else'"),
        (lambda c: c.update(version=2), "expected version 1, found 2"),
        (lambda c: c.pop("layout"), "expected 'layout' to be an object, found 'none'"),
        (lambda c: c.update(bodies=10**9), "expected 'bodies' to be a number from 1 to 16"),
        (lambda c: c.update(frames=True), "expected 'frames'"),
        (lambda c: c.update(classes=["\x1b[31m"]), "expected 'classes'"),
        (lambda c: c["classes"].pop(), "expected a classifier of 11 classes for joint"),
        (lambda c: c.update(modalities=["joint", "joint"]), "expected 'modalities'"),
        (lambda c: c.update(modalities=["joint"]), "expected sets of joint, found 'motion'"),
        (
            lambda c: c["sets"].append("bone+bone"),
            "expected sets of joint, motion, bone, found 'bone\\+bone'",
        ),
        (lambda c: c["model"].update(hidden_channels=10**9), "do not fit the model"),
        (lambda c: c["model"].update(encoder={"name": "os.system", "sizes": {}}), "encoder"),
        (
            lambda c: c["model"].update(encoder={"name": "tcn", "sizes": {"blocks": 10**9}}),
            "expected blocks of",
        ),
        (lambda c: c["model"].update(encoder={"name": "tcn", "sizes": {"rm": 1}}), "found 'rm'"),
        (lambda c: c["layout"].update(parents=[1, 0] * 12 + [0]), "circle"),
        (lambda c: c["layout"].update(joints=["a"] * 300), "at most 256 names of joints"),
        (lambda c: c["layout"].update(surprise=1), "expected tables out of"),
        (lambda c: c["weights"].update(sha256="0" * 64), "expected the weights that config.json names"),
    ],
)
def test_a_crafted_description_is_one_message_that_names_it(edit, message, bundle, tmp_path):
    folder = edited(bundle, tmp_path / "crafted", edit)
    with pytest.raises(InputError, match=message) as error:
        ikem_fast.load(folder)
    assert "crafted" in str(error.value) and str(error.value).isprintable() and len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "content", ["", "[]", "{", nested(100_000), '{"format": ' + "9" * 5000 + "}", "\x00"]
)
def test_a_description_that_is_none_is_one_message(content, bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "crafted")
    (folder / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config.json: expected"):
        ikem_fast.load(folder)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:400] + b"\xff" + b[401:], lambda b: b""])
def test_damaged_weights_are_found(damage, bundle, tmp_path):
    folder = shutil.copytree(bundle, tmp_path / "damaged")
    weights = folder / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    with pytest.raises(InputError, match=r"model.safetensors: expected the weights that"):
        ikem_fast.load(folder)


def reweighted(bundle, folder, edit):
    """A bundle of other weights, whose checksum is right."""
    shutil.copytree(bundle, folder)
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors")
    found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    content["weights"]["sha256"] = found
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda s: s.pop("encoders.joint.data_bn.weight"), "do not fit the model"),
        (lambda s: s.update(stranger=torch.zeros(1)), "do not fit the model"),
        (lambda s: s.pop("heads.bone.bias"), "expected a classifier of 12 classes for bone"),
        (
            lambda s: s["heads.bone.bias"].fill_(torch.nan),
            "expected finite weights, found others in heads.bone.bias",
        ),
        (lambda s: s["heads.joint.temperature"].fill_(0), "expected a temperature > 0 for joint"),
    ],
)
def test_weights_that_do_not_fit_are_named(edit, message, bundle, tmp_path):
    with pytest.raises(InputError, match=message):
        ikem_fast.load(reweighted(bundle, tmp_path / "crafted", edit))


def test_the_hub_is_given_the_folder_and_gives_it_back(bundle, tmp_path, monkeypatch):
    """A hub that is a folder here: what is uploaded is what comes back, and nothing else is fetched."""
    import huggingface_hub

    asked = []

    class Hub:
        def __init__(self, token=None):
            asked.append(token)

        def create_repo(self, repo_id, **options):
            (tmp_path / repo_id).mkdir(parents=True, exist_ok=True)

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, **options):
            for name in allow_patterns:
                shutil.copy(f"{folder_path}/{name}", tmp_path / repo_id)
            return f"https://hub/{repo_id}/commit/1"

    def download(repo_id, *, revision, token, allow_patterns):
        assert set(allow_patterns) == {"config.json", "model.safetensors", "README.md"}
        return str(tmp_path / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    address = ikem_fast.load(bundle).push_to_hub("someone/actions", token="secret")
    assert address == "https://hub/someone/actions/commit/1" and asked == ["secret"]
    back = ikem_fast.predict.Bundle.from_pretrained("someone/actions")
    clip = np.random.default_rng(0).normal(size=(3, 20, 25, 2))
    assert (back.predict(clip).probabilities == ikem_fast.load(bundle).predict(clip).probabilities).all()


def test_without_huggingface_hub_its_extra_is_named(bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'ikem-fast\[hub\]'"):
        ikem_fast.load(bundle).push_to_hub("someone/actions")
