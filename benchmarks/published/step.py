"""The published training step, in our words: what a step of this package is timed against.

Views are made clip by clip, each modality's encoder runs in the published order of operations, every logit
and mask is written out, the moving average is a Python loop over parameters. Weights are those of a model of
this package, so that losses can be compared.
"""

import torch
import torch.nn.functional as F

from benchmarks.published import inputs
from benchmarks.published import losses as published_losses
from ikem_fast.tracing import span


class PublishedStep:
    """One optimisation step of pretraining or distillation.

    model: `nn.IKEM` or `nn.RelationalDistiller` made with impl="reference"; its weights and bank are trained.
    """

    def __init__(self, model, lr=0.1):
        self.model = model
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=lr, momentum=0.9, weight_decay=1e-4)
        self.row = 0

    def __call__(self, clips, frames, views, phase):
        """clips (N,3,T,V,M), frames (N,), views: two of {"shear": …, "crop_start": …} → losses (L,)."""
        with span("augment+derive"):
            first, second = self._views(clips, frames, views)
        losses, keys = (self._distil if phase == "distillation" else self._contrast)(first, second, phase)
        with torch.no_grad():
            bank = self.model.bank.rows
            bank[:, self.row : self.row + len(clips)] = F.normalize(keys, dim=-1)
            self.row = (self.row + len(clips)) % bank.shape[1]
        with span("backward"):
            self.optimizer.zero_grad()
            losses.sum().backward()
        with span("optimiser"):
            self.optimizer.step()
        return losses.detach()

    def _views(self, clips, frames, views):
        matrices = torch.stack([view["shear"] for view in views]).double().cpu().numpy()
        starts = torch.stack([view["crop_start"] for view in views]).cpu().numpy()
        both = inputs.two_views(clips.cpu().numpy(), frames.cpu(), matrices, starts, self.model.layout)
        return [view.to(clips.device) for view in both]

    def _contrast(self, first, second, phase):
        model = self.model
        with span("query"):
            q, hidden = _encode(model.query_encoders, first, model.modalities)
        with torch.no_grad(), span("key"):
            updated = model.exchange_key_updates if phase == "exchange" else model.modalities
            for name in updated:
                queries = model.query_encoders[name].parameters()
                for key, query in zip(model.key_encoders[name].parameters(), queries, strict=True):
                    key.data = key.data * model.momentum + query.data * (1 - model.momentum)
            k, _ = _encode(model.key_encoders, second, model.modalities)
        with span("loss"):
            queue = model.bank.rows.clone()
            if phase == "contrast":
                return published_losses.published("info_nce", q, k, queue).mean(-1), k
            heads = model.exchange_heads
            z = torch.stack([heads[name](h) for name, h in zip(model.modalities, hidden, strict=True)])
            losses = published_losses.published("cross_modal_contrast", q, k, queue).mean(-1)
            return losses + published_losses.published("implicit_exchange", z, k, queue).mean(-1), k

    def _distil(self, first, second, phase):
        model = self.model
        with torch.no_grad(), span("key"):
            t, _ = _encode(model.teacher, first, model.modalities)
        with span("query"):
            chosen = [model.modalities.index(name) for name in model.student_modalities]
            u, _ = _encode(model.students, second[chosen], model.student_modalities)
        with span("loss"):
            queue = model.bank.rows.clone()
            return published_losses.published("relational_distillation", u, t, queue).mean(-1), t


def _encode(encoders, views, names):
    outputs = [encoders[name](view) for name, view in zip(names, views, strict=True)]
    return torch.stack([output for output, _ in outputs]), torch.stack([feature for _, feature in outputs])
