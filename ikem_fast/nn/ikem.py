"""IKEM pretraining: an encoder for each modality, momentum contrast, and the implicit knowledge exchange."""

import copy

import torch
from torch import nn

from ikem_fast import ops
from ikem_fast.nn.encoders.stgcn import STGCN
from ikem_fast.nn.memory_bank import MemoryBank
from ikem_fast.skeleton import MODALITIES
from ikem_fast.tracing import span

INITIALISATIONS = ("default", "published")


class IKEM(nn.Module):
    """Query and key encoders of every modality, their memory bank, and the two phases' losses.

    Phase 1 contrasts each modality with its own bank (`ops.info_nce`). Phase 2 adds what modalities learn
    from each other: `ops.cross_modal_contrast` plus `ops.implicit_exchange`.

    Args:
        feature_dim: D, size of the contrasted features.
        queue_size: K, keys in the bank of a modality.
        hidden_channels, hidden_dim, dropout, strategy: of the encoder, see `STGCN`.
        momentum: of the key encoders' moving average.
        temperature: τ of every loss.
        topk: neighbours mined for each query in phase 2.
        context: whether phase 2 contrasts products of similarities too.
        layout: name of a joint layout, or a `skeleton.Layout`.
        modalities: which, in this order.
        encoder: another encoder: a module, copied for each modality, or a function that makes one. It maps
            (N,C,T,V,M) to (output (N,feature_dim), feature (N,hidden_dim)).
        exchange_key_updates: the modalities whose key encoders follow their query encoders in phase 2.
        initialisation: "default" is torch's, with key encoders starting as copies; "published" draws
            convolutions from N(0, 0.02), and key encoders apart from query encoders.
        impl: implementation of the ops: "auto", "fused" or "reference"; with "reference" STGCN too is plain
            torch.

    Source: arXiv 2309.12009, sections 3.2 and 3.3.
    """

    def __init__(
        self,
        feature_dim=128,
        queue_size=32768,
        hidden_channels=16,
        hidden_dim=256,
        dropout=0.5,
        momentum=0.999,
        temperature=0.07,
        topk=1,
        layout="ntu-rgb+d",
        modalities=MODALITIES,
        encoder=None,
        context=True,
        strategy="spatial",
        exchange_key_updates=("motion", "acceleration", "angular_velocity"),
        initialisation="default",
        impl="auto",
    ):
        super().__init__()
        if initialisation not in INITIALISATIONS:
            raise ValueError(f"initialisation: expected one of {INITIALISATIONS}, found {initialisation!r}")
        self.modalities = tuple(modalities)
        self.layout = layout
        self.momentum = momentum
        self.temperature = temperature
        self.topk = topk
        self.context = context
        self.exchange_key_updates = tuple(m for m in self.modalities if m in exchange_key_updates)
        self.impl = impl

        def stgcn():
            network = STGCN(
                hidden_channels=hidden_channels,
                hidden_dim=hidden_dim,
                num_classes=feature_dim,
                dropout=dropout,
                layout=layout,
                strategy=strategy,
                impl="reference" if impl == "reference" else "auto",
            )
            network.fc = two_layers(hidden_dim, hidden_dim, feature_dim)
            return network

        make = encoder_factory(encoder or stgcn)
        self.query_encoders = nn.ModuleDict({name: make() for name in self.modalities})
        if initialisation == "published":
            self.query_encoders.apply(_published_weights)
        self.key_encoders = copy.deepcopy(self.query_encoders)
        if initialisation == "published":
            self.key_encoders.apply(_published_weights)
        self.key_encoders.requires_grad_(False)

        width = len(self.modalities) * feature_dim
        self.exchange_heads = nn.ModuleDict(
            {name: two_layers(hidden_dim, width, width) for name in self.modalities}
        )
        self.bank = MemoryBank(len(self.modalities), queue_size, feature_dim)

    def forward(self, x_q, x_k, frames=None, exchange=False, augment_q=None, augment_k=None, gather=None):
        """One step of pretraining up to the losses; in training mode key encoders and bank move on.

        Args:
            x_q, x_k: (N,3,T,V,M) two views of the same clips, N ≤ queue_size.
            frames: (N,) frame counts of the clips before resampling.
            exchange: phase 2.
            augment_q, augment_k: {"shear": …, "crop_start": …} for `ops.derive_modalities`, which augments
                the view while it derives.
            gather: turns the keys of this process into those of all processes, which enter the bank; without
                it this one's do.

        Returns:
            (P,) losses, differentiable with respect to query encoders and exchange heads.
        """
        with span("query"):
            q, hidden = self.encode(self.query_encoders, x_q, frames, augment_q)
        with torch.no_grad(), span("key"):
            if self.training:
                self.update_keys(self.exchange_key_updates if exchange else self.modalities)
            k, _ = self.encode(self.key_encoders, x_k, frames, augment_k)
        # The bank changes below, before the backward pass reads it again.
        queue = self.bank.rows.clone() if torch.is_grad_enabled() and self.training else self.bank.rows
        options = {"temperature": self.temperature, "impl": self.impl}
        with span("loss"):
            if exchange:
                heads = self.exchange_heads.values()
                z = torch.stack([head(feature) for head, feature in zip(heads, hidden, strict=True)])
                losses = ops.cross_modal_contrast(
                    q, k, queue, topk=self.topk, context=self.context, **options
                )
                losses = losses + ops.implicit_exchange(z, k, queue, **options)
            else:
                losses = ops.info_nce(q, k, queue, **options)
        if self.training:
            self.bank.enqueue(k if gather is None else gather(k))
        return losses

    def encode(self, encoders, x, frames, augmentation=None):
        """x (N,3,T,V,M) → outputs (P,N,D), features (P,N,hidden_dim) of `encoders`, one for each modality."""
        with span("augment+derive"):
            views = ops.derive_modalities(
                x,
                frames,
                modalities=self.modalities,
                layout=self.layout,
                impl=self.impl,
                **(augmentation or {}),
            )
        return encode_views(encoders, views)

    @torch.no_grad()
    def update_keys(self, modalities):
        """Move the key encoders' weights towards the query encoders': k ← momentum·k + (1 − momentum)·q."""
        keys = [p for name in modalities for p in self.key_encoders[name].parameters()]
        queries = [p for name in modalities for p in self.query_encoders[name].parameters()]
        if keys:
            torch._foreach_lerp_(keys, queries, 1.0 - self.momentum)


def encode_views(encoders, views):
    """views (P,N,3,T,V,M) → outputs (P,N,·), features (P,N,·): each view through its own encoder."""
    outputs, features = zip(
        *(encoder(view) for encoder, view in zip(encoders.values(), views, strict=True)), strict=True
    )
    return torch.stack(outputs), torch.stack(features)


def two_layers(inputs, hidden, outputs):
    """The head of the published code: Linear → ReLU → Linear."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


def encoder_factory(encoder):
    """A function that makes encoders, out of one or out of a module to copy."""
    return (lambda: copy.deepcopy(encoder)) if isinstance(encoder, nn.Module) else encoder


def _published_weights(module):
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
