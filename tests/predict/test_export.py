"""An exported file answers as its bundle does, whatever the encoder, for any number of clips and frames."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ikem_fast.cli import main
from ikem_fast.data import preprocess_clips
from ikem_fast.data.preparation import Preprocessing
from ikem_fast.errors import InputError
from ikem_fast.nn.build import build_encoders
from ikem_fast.nn.config import EncoderConfig, ModelConfig
from ikem_fast.nn.recognizer import LinearHead, Recognizer
from ikem_fast.predict import Bundle
from ikem_fast.predict.export import TOLERANCE, example_clips, export, filled_up
from ikem_fast.predict.prepared import preprocess_joints
from ikem_fast.runtime.bundle import Description
from ikem_fast.skeleton import get_layout

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "stgcn": ({"pooling": "parts"}, {"hidden_channels": 2, "hidden_dim": 8}),
    "tcn": ({"blocks": 2, "segments": 2}, {"hidden_channels": 8}),
    "transformer": ({"layers": 1}, {"hidden_channels": 8}),
}


CHOSEN = {"center": "clip", "align": "clip", "up": "z", "reach": 1.3, "sampling": "none"}


def bundle_of(name, layout="sbu", bodies=2, modalities=("angular_velocity",), prepared=None):
    """A bundle of random weights, whose scores differ clearly."""
    torch.manual_seed(0)
    sizes, shared = SIZES[name]
    model = ModelConfig(feature_dim=4, encoder=EncoderConfig(name, sizes), **shared)
    encoders = build_encoders(model, layout, modalities, bodies=bodies)
    width = len(modalities) * next(iter(encoders.values())).hidden_dim
    head = LinearHead(torch.randn(width, 5), torch.randn(5), 1.5)
    layout = get_layout(layout)
    description = Description(
        "made", layout, bodies, 20, tuple("abcde"), modalities, model, prepared=prepared or {}
    )
    return Bundle(Recognizer(encoders, layout, {"+".join(modalities): head}), description)


@pytest.mark.parametrize("name", ["stgcn", "tcn", pytest.param("transformer", marks=pytest.mark.slow)])
def test_onnx_answers_as_the_bundle(name, tmp_path):
    import onnxruntime

    bundle = bundle_of(name, prepared=CHOSEN if name == "stgcn" else {})
    exported = export(bundle, tmp_path / "model.onnx")
    assert exported.difference <= TOLERANCE and exported.size == exported.path.stat().st_size
    assert set(exported.milliseconds) == {1, 32}
    session = onnxruntime.InferenceSession(exported.path)
    for clips in (example_clips(bundle)[:1], example_clips(bundle)[3:4], example_clips(bundle)[2:7]):
        wanted = bundle.predict(clips)
        probabilities, features, _ = session.run(None, {"joints": filled_up(clips)})
        np.testing.assert_allclose(probabilities, wanted.probabilities, atol=1e-4)
        np.testing.assert_allclose(features, wanted.features, atol=1e-3, rtol=1e-3)
    nobody, broken = np.zeros((2, 3, 9, 15, 2), np.float32)
    broken[0, 4, 3, 0] = np.nan
    assert session.run(["frames"], {"joints": np.stack([nobody, broken])})[0].tolist() == [0, -1]
    if name == "tcn":
        run_the_example(exported.path, example_clips(bundle)[2], bundle, tmp_path)


@pytest.mark.parametrize(
    "choice",
    [
        {}, CHOSEN, {"center": "none", "align": "none", "scale": 0.01}, {"center": "clip", "align": "frame"},
        {"align": "clip"}, {"center": "pair", "align": "pair"}, {"align": "pair"},
        {"planar": True, "align": "none", "up": "y-down", "reach": 2.0},
        {"sampling": "none", "up": "y-down", "scale": 3.0},
    ],
)  # fmt: skip
def test_what_was_chosen_is_computed_as_in_preparing(choice):
    bundle = bundle_of("tcn")
    clips = example_clips(bundle)
    clips[1][...] = np.where(clips[1] < 0.1, 0, clips[1])  # joints that are missing
    choice = Preprocessing(**choice, frames=20)
    wanted = preprocess_clips(clips, layout="sbu", preprocessing=choice)
    found, frames = preprocess_joints(torch.from_numpy(filled_up(clips)), choice, get_layout("sbu"))
    assert frames.tolist() == [clip.frames for clip in wanted]
    for clip, one in zip(found, wanted, strict=True):
        np.testing.assert_allclose(clip, one.coordinates, atol=1e-4 * max(1, np.abs(one.coordinates).max()))


def test_frames_that_are_drawn_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"expected clips sampled linearly or not .*'uniform'"):
        export(bundle_of("tcn", prepared={"sampling": "uniform"}), tmp_path / "model.onnx")


def run_the_example(model, clip, bundle, folder):
    """The example imports neither torch nor this package."""
    np.save(folder / "clip.npy", clip)
    np.save(folder / "table.npy", clip.transpose(1, 2, 0, 3))  # as `prepare arrays` reads it
    (folder / "blocked").mkdir()
    for package in ("torch", "ikem_fast"):
        (folder / "blocked" / f"{package}.py").write_text("raise ImportError('not needed')")
    files = [folder / "clip.npy", folder / "table.npy"]
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "exported_model.py", model, *files],
        env=os.environ | {"PYTHONPATH": str(folder / "blocked")},
        capture_output=True, text=True, encoding="utf-8", timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "5 actions from 15 joints of layout sbu, 2 bodies" in done.stdout
    prediction = bundle.predict(clip)
    share = 100 * prediction.probabilities.max()
    for file in files:
        assert f"{file.name}: {prediction.labels[0]}, {share:.0f} % (of " in done.stdout


def test_a_program_of_torch_export_answers_as_the_bundle(tmp_path):
    bundle = bundle_of("tcn", modalities=("joint", "bone"))
    assert export(bundle, tmp_path / "model.pt2", "torch-export").difference <= TOLERANCE
    program = torch.export.load(tmp_path / "model.pt2").module(check_guards=False)
    clip = example_clips(bundle)[3]
    assert clip.shape[1] == 1
    probabilities = program(torch.from_numpy(clip[None]))[0].detach().numpy()
    np.testing.assert_allclose(probabilities, bundle.predict(clip).probabilities, atol=1e-4)


def test_a_file_that_answers_otherwise_is_refused(tmp_path, monkeypatch):
    bundle = bundle_of("tcn")
    monkeypatch.setattr("ikem_fast.predict.export.compare", lambda *args: 2e-4)
    monkeypatch.setattr("ikem_fast.predict.export.Graph.forward", lambda self, joints: (joints * 2,) * 3)
    with pytest.raises(InputError, match=r"to 0.0001, found a difference of 0.0002; nothing was written"):
        export(bundle, tmp_path / "model.pt2", "torch-export")
    assert not list(tmp_path.iterdir())


def test_encoders_alone_and_missing_packages_are_one_message(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    words = ["export", "--out", str(tmp_path / "x.onnx"), "--model"]
    assert main([*words, str(run)]) == 2
    assert "pip install 'ikem-fast[export]'" in capsys.readouterr().err
    (tmp_path / "checkpoint.pt").write_bytes((run / "checkpoint.pt").read_bytes())
    assert main([*words, str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "expected a classifier, found encoders alone; make one: ikem-fast evaluate" in err and not out
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
