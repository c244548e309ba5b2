"""What version 1 wrote still opens: a checkpoint and a prepared folder, kept as files in tests/version1/."""

import lzma
from pathlib import Path

import pytest
import torch

from ikem_fast.data import open_dataset
from ikem_fast.evaluate import KnnConfig, evaluate_knn
from ikem_fast.train import ModelConfig, PretrainConfig, load_checkpoint, pretrain

FILES = Path(__file__).parent / "version1"


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(lzma.decompress((FILES / "checkpoint.pt.xz").read_bytes()))
    (folder / "metrics.jsonl").write_bytes((FILES / "metrics.jsonl").read_bytes())
    return folder


def test_a_prepared_folder():
    dataset = open_dataset(FILES / "data")
    assert (dataset.name, dataset.layout, dataset.classes) == ("tiny", "sbu", ("a", "b"))
    assert dataset["train"].clips.shape == (4, 3, 4, 15, 1)
    assert dataset["train"].frames.tolist() == [9, 10, 11, 12]
    assert dataset["test"].names.tolist() == ["clip4", "clip5"]


def test_a_checkpoint_is_evaluated_and_gone_on_with(run):
    state = load_checkpoint(run)
    assert (state["kind"], state["epoch"], state["version"]) == ("pretrain", 1, 1)
    evaluate_knn(KnnConfig(data=FILES / "data", checkpoint=run, out=run, k=1, device="cpu"))
    assert (run / "knn.json").is_file()
    model = ModelConfig(
        feature_dim=2, queue_size=4, hidden_channels=1, hidden_dim=4, modalities=("joint",),
    )  # fmt: skip
    config = PretrainConfig(
        data=FILES / "data", out=run, epochs=2, batch_size=2, lr=0.01, device="cpu", model=model, resume=True
    )
    after = load_checkpoint(pretrain(config))
    assert after["epoch"] == 2
    weights = [one["model"]["query_encoders.joint.fc.0.weight"] for one in (state, after)]
    assert not torch.equal(*weights), "the second epoch must have trained"
