"""A whole step of a loop such as CrosSCLR's: three streams, their encoders, a loss, momentum and queue.

In our words, with their arithmetic. `before` has nothing of this package but the encoder, in plain torch and
in the published order; `ops` changes what [drop-in](../../docs/drop_in.md) tells; `ops and encoder` that too.
"""

from unittest.mock import patch

import torch
import torch.nn.functional as F

from benchmarks.published import losses as published_losses
from ikem_fast import ops
from ikem_fast.nn import STGCN
from ikem_fast.skeleton import get_layout

WAYS = ("before", "ops", "ops and encoder")
PHASES = {"contrast": "info_nce", "cross": "cross_modal_contrast"}
LAYOUT, STREAMS, TEMPERATURE, MOMENTUM = "ntu-rgb+d-chain", ("joint", "motion", "bone"), 0.07, 0.999


class LoopStep:
    """One optimization step, by one of WAYS. All ways begin with the same weights and banks.

    Args:
        way: of WAYS.
        K: keys of a bank.
        sizes: of `STGCN`.
    """

    def __init__(self, way, K, lr=0.1, **sizes):
        torch.manual_seed(0)
        self.by_ops = way != "before"
        impl = "auto" if way == "ops and encoder" else "reference"
        self.queries, self.keys = (
            torch.nn.ModuleList(STGCN(impl=impl, **sizes) for _ in STREAMS) for _ in range(2)
        )
        self.keys.load_state_dict(self.queries.state_dict())
        self.keys.requires_grad_(False)
        self.banks = F.normalize(torch.randn(len(STREAMS), self.queries[0].fc.out_features, K), dim=1)
        self.pointer = torch.zeros(1, dtype=torch.int64)
        self.optimizer = torch.optim.SGD(
            self.queries.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=1e-4
        )

    def __call__(self, first, second, phase):
        """Two views (N,3,T,V,M) of clips → the loss."""
        derive, update, lose, enqueue = self._after() if self.by_ops else self._before()
        with patch.object(F, "dropout", ops.dropout if self.by_ops else F.dropout):
            with torch.no_grad():
                update(self.keys.parameters(), self.queries.parameters())
                k = _encode(self.keys, derive(second))
            loss = lose(_encode(self.queries, derive(first)), k, phase)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        enqueue(F.normalize(k, dim=-1))
        return loss.detach()

    def _after(self):
        def lose(q, k, phase):
            if phase == "contrast":
                return ops.moco_loss(q, k, self.banks, TEMPERATURE).sum()
            return ops.cross_modal_contrast(q, k, self.banks, topk=1, temperature=TEMPERATURE).sum()

        def enqueue(keys):
            for bank, own in zip(self.banks, keys, strict=True):
                pointer = self.pointer.clone()
                ops.enqueue_(bank, own, pointer)
            self.pointer.copy_(pointer)

        def update(keys, queries):
            ops.ema_update_(list(keys), list(queries), MOMENTUM)

        return lambda x: ops.streams(x, LAYOUT, STREAMS), update, lose, enqueue

    def _before(self):
        def lose(q, k, phase):
            return published_losses.published(PHASES[phase], q, k, self.banks.mT).mean(-1).sum()

        def enqueue(keys):
            start, N = int(self.pointer), keys.shape[1]
            self.banks[:, :, start : start + N] = keys.mT
            self.pointer[0] = (start + N) % self.banks.shape[2]

        def update(keys, queries):
            for key, query in zip(keys, queries, strict=True):
                key.data = key.data * MOMENTUM + query.data * (1 - MOMENTUM)

        return streams, update, lose, enqueue


def streams(x):
    """Joint, motion, bone: a difference of frames, and a loop over bones."""
    motion, bone = torch.zeros_like(x), torch.zeros_like(x)
    motion[:, :, :-1] = x[:, :, 1:] - x[:, :, :-1]
    for v, parent in enumerate(get_layout(LAYOUT).parents):
        bone[:, :, :, v] = x[:, :, :, v] - x[:, :, :, parent]
    return x, motion, bone


def _encode(encoders, views):
    return torch.stack([encoder(view)[0] for encoder, view in zip(encoders, views, strict=True)])
