"""Evaluation by nearest neighbours: the whole of it on tiny data."""

import pytest

from ikem_fast.errors import InputError
from ikem_fast.evaluate import KnnConfig, evaluate_knn, read_results
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain
from tests.helpers import ONE_BLOCK

MODEL = ModelConfig(feature_dim=8, queue_size=16, hidden_channels=4, encoder=ONE_BLOCK)


def test_the_whole_way(tiny_dataset, tmp_path):
    checkpoint = pretrain(
        PretrainConfig(
            data=tiny_dataset, out=tmp_path / "run", epochs=1, batch_size=8, device="cpu", model=MODEL
        )
    )
    settings = {"data": tiny_dataset, "checkpoint": checkpoint, "out": tmp_path, "device": "cpu"}
    results = evaluate_knn(KnnConfig(k=2, untrained_seeds=1, **settings))
    assert list(results.baselines) == ["chance", "raw", "untrained"]
    assert list(results.sets) == [*MODEL.modalities, "joint+motion+bone", "+".join(MODEL.modalities)]
    assert read_results(tmp_path / "knn.json") == results
    for result in results.sets.values():
        assert 0 <= result.top1 <= result.top5 <= 100
        assert sum(map(sum, result.confusion)) == results.clips["test"]
    chosen = evaluate_knn(KnnConfig(sets="joint", baselines=False, standardize=True, **settings))
    assert chosen.sets["joint"].chosen["k"] in (1, 3, 5, 10, 20)
    with pytest.raises(InputError, match="k: expected at most 24 \\(the training clips\\), found 25"):
        evaluate_knn(KnnConfig(k=25, **settings))
    with pytest.raises(InputError, match="temperature"):
        evaluate_knn(KnnConfig(temperature=0.0, **settings))
