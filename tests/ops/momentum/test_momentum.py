"""What momentum contrast does between steps, and votes of neighbors."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ikem_fast import ops


def test_weights_follow():
    target, source = nn.Linear(3, 4), nn.Linear(3, 4)
    want = [
        0.9 * t.detach() + 0.1 * s.detach()
        for t, s in zip(target.parameters(), source.parameters(), strict=True)
    ]
    ops.ema_update_(target, source, 0.9)
    torch.testing.assert_close([p.detach() for p in target.parameters()], want)
    ops.ema_update_(iter(target.parameters()), list(source.parameters()), 0.0)
    assert all(torch.equal(t, s) for t, s in zip(target.parameters(), source.parameters(), strict=True))
    ops.ema_update_([], [], 0.9)


@pytest.mark.parametrize(
    ("sources", "momentum", "message"),
    [
        (nn.Linear(3, 4, bias=False), 0.9, "sources: expected 2 tensors, as targets has, found 1"),
        (nn.Linear(2, 4), 0.9, r"sources: expected shape \(4, 3\) for tensor 0, found \(4, 2\)"),
        (nn.Linear(3, 4), 1.5, "momentum: expected a number in 0 … 1, found 1.5"),
    ],
)
def test_weights_that_do_not_fit_are_refused(sources, momentum, message):
    target = nn.Linear(3, 4)
    before = [p.clone() for p in target.parameters()]
    with pytest.raises(ValueError, match=message):
        ops.ema_update_(target, sources, momentum)
    assert all(torch.equal(p, q) for p, q in zip(target.parameters(), before, strict=True))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("modalities", [0, 2])
def test_a_ring_wraps(transposed, modalities):
    shape = (modalities, 7, 3) if modalities else (7, 3)
    rows, pointer = torch.zeros(shape), torch.zeros(1, dtype=torch.int64)
    queue = rows.mT.contiguous() if transposed else rows
    want, at = torch.zeros(shape), 0
    for _ in range(4):
        keys = torch.randn(*shape[:-2], 5, 3)
        ops.enqueue_(queue, keys, pointer)
        for n in range(5):
            want[..., at, :], at = keys[..., n, :], (at + 1) % 7
        assert torch.equal(queue.mT if transposed else queue, want) and pointer.tolist() == [at]


@pytest.mark.parametrize(
    ("keys", "pointer", "message"),
    [
        (torch.randn(8, 3), torch.zeros(1, dtype=torch.int64), "keys: expected at most 7 keys"),
        (torch.randn(2, 4), torch.zeros(1, dtype=torch.int64), r"queue: expected shape \(P=1, K, D=4\)"),
        (torch.randn(2, 3), 0, r"pointer: expected a tensor of one int64, found int"),
        (torch.randn(2, 3), torch.zeros(2, dtype=torch.int64), r"pointer: .*found \(2,\)"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys, pointer, message):
    queue = torch.zeros(7, 3)
    with pytest.raises(ValueError, match=message):
        ops.enqueue_(queue, keys, pointer)
    assert not queue.any()


@pytest.mark.parametrize("impl", ["auto", "reference"])
@pytest.mark.parametrize("temperature", [0.07, None])
def test_neighbors_vote(impl, temperature):
    features, bank = torch.randn(6, 8), F.normalize(torch.randn(60, 8), dim=-1)
    labels = torch.randint(5, (60,))
    ranking = ops.knn_predict(features, bank.T.contiguous(), labels, 5, 9, temperature, impl=impl)
    for n in range(6):
        s = bank.double() @ F.normalize(features[n].double(), dim=0)
        votes = [0.0] * 5
        for row in s.argsort(descending=True)[:9].tolist():
            votes[labels[row]] += 1.0 if temperature is None else ((s[row] - 1) / temperature).exp().item()
        assert ranking[n].tolist() == sorted(range(5), key=lambda c: -votes[c])


def test_votes_of_a_small_bank_and_wrong_labels():
    features, bank = torch.randn(2, 8), F.normalize(torch.randn(3, 8), dim=-1)
    assert ops.knn_predict(features, bank, torch.tensor([1, 1, 1]), 3)[:, 0].tolist() == [1, 1]
    with pytest.raises(ValueError, match="labels: expected values in 0 … 2, found 1 … 3"):
        ops.knn_predict(features, bank, torch.tensor([1, 3, 1]), 3)
    with pytest.raises(TypeError, match=r"labels: expected int64, found torch\.float32"):
        ops.knn_predict(features, bank, torch.ones(3), 3)
