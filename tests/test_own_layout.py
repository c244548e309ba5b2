"""A layout of a user's own, from a file to an accuracy: once prepared, nothing needs the file again."""

import numpy as np
import pytest

from ikem_fast.cli import main
from ikem_fast.data import DatasetWriter, open_dataset
from ikem_fast.errors import InputError
from ikem_fast.evaluate import KnnConfig, TransferConfig, evaluate_knn, evaluate_transfer
from ikem_fast.runtime.checkpoint import load_checkpoint, trained_layout
from ikem_fast.skeleton import get_layout, load_layout

CHAIR = """
joints: [hip, spine, head, left hand, right hand]
parents: [-1, hip, spine, spine, spine]
shoulders: [right hand, left hand]
"""
TINY = (
    "--epochs=2", "--batch-size=4", "--lr=0.05", "--device=cpu", "--model.queue-size=8",
    "--model.modalities=[joint, bone]", "--model.encoder.name=tcn",
    "--model.feature-dim=4", "--model.hidden-dim=8", "--model.hidden-channels=4",
)  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A prepared folder and a run on it; the layout's file is gone."""
    x = np.random.default_rng(0).normal(size=(12 * 9, 5, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, len=np.full(12, 9), y=np.arange(12) % 2, subject=np.arange(12) // 4)
    (tmp_path / "chair.yaml").write_text(CHAIR)
    words = ["--layout", str(tmp_path / "chair.yaml"), "--test=subject=2", "--out", str(tmp_path / "data")]
    assert main(["prepare", "npz", "--source", str(tmp_path / "a.npz"), *words]) == 0
    (tmp_path / "chair.yaml").unlink()
    assert main(["pretrain", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *TINY]) == 0
    return tmp_path


def test_from_a_file_to_an_accuracy(run):
    dataset = open_dataset(run / "data")
    assert (dataset.layout, dataset.num_joints) == ("chair", 5)
    assert dataset.skeleton.joints == ("hip", "spine", "head", "left hand", "right hand")
    assert trained_layout(load_checkpoint(run / "run"), run) == dataset.skeleton
    config = KnnConfig(data=run / "data", checkpoint=run / "run", out=run / "knn", k=1, device="cpu")
    assert 0 <= evaluate_knn(config).sets["joint"].top1 <= 100


def test_a_layout_of_the_same_name_is_another(run):
    (run / "other" / "chair.yaml").parent.mkdir()
    (run / "other" / "chair.yaml").write_text(CHAIR.replace("[-1, hip, spine, spine", "[-1, hip, spine, hip"))
    other = load_layout(run / "other" / "chair.yaml")
    with DatasetWriter(
        run / "data2", name="other", layout=other, classes=["a", "b"], num_frames=50, num_bodies=1,
        prepared={}, sources=map(str, range(8)), name_length=1,
    ) as writer:  # fmt: skip
        for i in range(8):
            clip = np.random.default_rng(i).normal(size=(3, 50, 5, 1)).astype(np.float32)
            writer.add("test" if i > 5 else "train", clip, 9, i % 2, str(i))
        writer.finish()
    settings = {"data": run / "data2", "checkpoint": run / "run", "out": run / "out", "device": "cpu"}
    with pytest.raises(InputError, match="'chair' with other parents and axis_parents and edges"):
        evaluate_knn(KnnConfig(**settings, k=1))
    results = evaluate_transfer(TransferConfig(**settings, probe="ridge", baselines=False))
    assert results.dataset == "other" and set(results.sets) >= {"joint", "bone"}


def test_what_needs_a_torso_says_so_before_anything_is_written(run, capsys):
    words = [word for word in TINY if "modalities" not in word]
    assert main(["pretrain", "--data", str(run / "data"), "--out", str(run / "six"), *words]) == 2
    assert "with a torso for rotation_axis and angular_velocity, found 'chair'" in capsys.readouterr().err
    assert not (run / "six").exists()


def test_a_checkpoint_with_a_name_alone_is_of_the_layout_that_is_known(tmp_path):
    assert trained_layout({"dataset": {"layout": "sbu"}}, tmp_path) == get_layout("sbu")
    with pytest.raises(InputError, match=r"layout: expected one of .* found 'chair'"):
        trained_layout({"dataset": {"layout": "chair"}}, tmp_path)
