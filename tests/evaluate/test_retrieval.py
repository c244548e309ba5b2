"""Retrieval: figures written out on few clips, and the whole of it on tiny data."""

import pytest
import torch
import torch.nn.functional as F

from ikem_fast.evaluate import RetrievalConfig, evaluate_retrieval, read_results, result_table
from ikem_fast.evaluate.protocols.retrieval import ranking
from tests.evaluate.tables import text_of


def test_figures_are_those_written_out(monkeypatch):
    monkeypatch.setattr("ikem_fast.evaluate.protocols.retrieval.QUERIES", 3)
    queries, gallery = F.normalize(torch.randn(7, 4), dim=1), F.normalize(torch.randn(12, 4), dim=1)
    wanted, found = torch.tensor([0, 1, 2, 0, 1, 2, 5]), torch.arange(12) % 4
    averages, recalls = [], {1: 0, 5: 0, 10: 0}
    for query, label in zip(queries, wanted.tolist(), strict=True):
        order = sorted(range(12), key=lambda i: -float(query @ gallery[i]))
        right = [int(found[i]) == label for i in order]
        for k in recalls:
            recalls[k] += any(right[:k])
        precisions = [sum(right[: i + 1]) / (i + 1) for i in range(12) if right[i]]
        averages += [sum(precisions) / len(precisions)] if precisions else []
    metrics = ranking(queries, gallery, wanted, found)
    assert len(averages) == 6, "one query has nothing to be found"
    assert metrics["mAP"] == pytest.approx(100 * sum(averages) / 6)
    assert [metrics[f"recall@{k}"] for k in recalls] == [pytest.approx(100 * n / 7) for n in recalls.values()]


def test_the_whole_way(small, tmp_path):
    results = evaluate_retrieval(RetrievalConfig(**small, out=tmp_path, untrained_seeds=1))
    assert read_results(tmp_path / "retrieval.json") == results
    for result in results.sets.values():
        assert result.metrics["recall@1"] == pytest.approx(result.top1)
        assert result.metrics["recall@1"] <= result.metrics["recall@5"] <= result.metrics["recall@10"]
    assert list(results.baselines) == ["chance", "raw", "untrained"]
    assert "mAP" in text_of(result_table(results))
