"""Evaluation by nearest neighbours: the votes on made-up features, and the whole of it on tiny data."""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast.errors import InputError
from ikem_fast.evaluate import KnnConfig, evaluate_knn, read_results
from ikem_fast.evaluate.probes.knn import vote
from ikem_fast.train import ModelConfig, PretrainConfig, pretrain

MODEL = ModelConfig(feature_dim=8, queue_size=16, hidden_channels=4, hidden_dim=12)


def test_votes_are_those_written_out():
    """Two modalities: the mean of their cosines; k=3 of a bank of seven."""
    queries, bank, labels = torch.randn(5, 2, 4), torch.randn(7, 2, 4), torch.arange(7) % 3
    votes = vote(queries, bank, F.one_hot(labels, 3).float(), k=3, temperature=0.1)
    for query, row in zip(queries, votes, strict=True):
        cosine = torch.stack([F.cosine_similarity(query, key, dim=-1).mean() for key in bank])
        expected = torch.zeros(3)
        for i in cosine.argsort(descending=True)[:3]:
            expected[labels[i]] += torch.exp((cosine[i] - 1) / 0.1)
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-7)


def test_one_neighbour_is_the_nearest(monkeypatch):
    monkeypatch.setattr("ikem_fast.evaluate.probes.knn.QUERIES", 4)  # several parts, the last one smaller
    x, y = torch.randn(30, 1, 16), torch.arange(30)
    votes = vote(x + 0.01 * torch.randn(x.shape), x, F.one_hot(y).float(), k=1, temperature=0.07)
    assert torch.equal(votes.argmax(1), y)


def test_the_whole_way(tiny_dataset, tmp_path):
    checkpoint = pretrain(
        PretrainConfig(
            data=tiny_dataset, out=tmp_path / "run", epochs=1, batch_size=8, device="cpu", model=MODEL
        )
    )
    settings = {"data": tiny_dataset, "checkpoint": checkpoint, "out": tmp_path, "device": "cpu"}
    results = evaluate_knn(KnnConfig(k=2, **settings))
    assert list(results.sets) == [*MODEL.modalities, "joint+motion+bone", "+".join(MODEL.modalities)]
    assert read_results(tmp_path / "knn.json") == results
    for result in results.sets.values():
        assert 0 <= result.top1 <= result.top5 <= 100
        assert sum(map(sum, result.confusion)) == results.clips["test"]
    with pytest.raises(InputError, match="k: expected at most 24 \\(the training clips\\), found 25"):
        evaluate_knn(KnnConfig(k=25, **settings))
    with pytest.raises(InputError, match="temperature"):
        evaluate_knn(KnnConfig(temperature=0.0, **settings))
