"""IKEM pretraining: an encoder for each modality, momentum contrast, and the implicit knowledge exchange."""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ikem_fast import ops
from ikem_fast.nn.config import DEFAULTS
from ikem_fast.nn.encoders.base import EncoderConfig, encode_views, encoder_maker, feature_size
from ikem_fast.nn.heads import HEADS, HIDDEN_DIM, projection, two_layers
from ikem_fast.nn.memory_bank import MemoryBank
from ikem_fast.ops._checks import check_choice
from ikem_fast.ops._support import Implementation
from ikem_fast.ops.modalities.definitions import check_derivable
from ikem_fast.skeleton import Layout, get_layout
from ikem_fast.tracing import span

INITIALIZATIONS = ("default", "published")
EXCHANGE_LOSSES = ("cross_modal_contrast", "implicit_exchange")
# The methods that this model is, each by its losses of phase 2; phase 1 is the same.
METHODS: dict[str, tuple[str, ...]] = {
    "ikem": EXCHANGE_LOSSES,
    "crossclr": ("cross_modal_contrast",),
    "skeletonclr": (),
    "exchange": ("implicit_exchange",),
}
Watch = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]


class IKEM(nn.Module):
    """Hold query and key encoders of every modality and their memory bank, and give both phases' losses.

    Phase 1 contrasts each modality with its own bank (`ops.info_nce`). Phase 2 adds what modalities learn
    from each other: `ops.cross_modal_contrast` plus `ops.implicit_exchange`.

    Args:
        feature_dim: D, size of the contrasted features.
        queue_size: K, keys in the bank of a modality.
        hidden_channels, hidden_dim, dropout, strategy: of the encoder, where it has them; None is the
            encoder's own default.
        momentum: of the key encoders' moving average.
        temperature: τ of every loss.
        topk: neighbors mined for each query in phase 2.
        context: whether phase 2 contrasts products of similarities too.
        layout: name of a joint layout, or a `skeleton.Layout`.
        modalities: which, in this order.
        encoder: a name of `ENCODERS` or an `EncoderConfig`; or a module, copied for each modality, or a
            function that makes one. It maps (N,C,T,V,M) to (output (N,feature_dim), feature (N,H)).
            One that is not of the table says H by an attribute `hidden_dim`, or else the argument does.
        exchange_key_updates: the modalities whose key encoders follow their query encoders in phase 2.
        initialization: "default" is torch's, with key encoders starting as copies; "published" draws
            convolutions from N(0, 0.02), and key encoders apart from query encoders.
        impl: implementation of the ops: "auto", "fused" or "reference"; with "reference" STGCN too is plain
            torch.
        bodies: M, of a clip, for encoders that depend on it.
        head: what stands on the feature: "published", or "normalized" as in `nn.heads.two_layers`.
        initialisation: what `initialization` was called in version 1.

    In any dtype: views are cast to their encoder's, and the bank has the model's. Below float32 a moving
    average of a momentum near 1 is lost in rounding, which a warning says; mixed precision
    (`torch.autocast`) keeps weights and bank in float32 and has no such fault.

    Raises:
        ValueError: an argument is out of range; forward: more clips than the bank has rows.

    Example:
        model = IKEM(queue_size=1024)
        clips, frames = torch.randn(8, 3, 50, 25, 2), torch.full((8,), 90)
        model(clips, clips, frames).sum().backward()

    Source: arXiv 2309.12009, sections 3.2 and 3.3.
    """

    def __init__(
        self,
        feature_dim: int = DEFAULTS.feature_dim,
        queue_size: int = DEFAULTS.queue_size,
        hidden_channels: int | None = None,
        hidden_dim: int | None = None,
        dropout: float | None = None,
        momentum: float = DEFAULTS.momentum,
        temperature: float = DEFAULTS.temperature,
        topk: int = DEFAULTS.topk,
        layout: str | Layout = "ntu-rgb+d",
        modalities: Sequence[str] = DEFAULTS.modalities,
        encoder: str | EncoderConfig | nn.Module | Callable[[], nn.Module] | None = None,
        context: bool = DEFAULTS.context,
        strategy: str = DEFAULTS.strategy,
        exchange_key_updates: Sequence[str] = DEFAULTS.exchange_key_updates,
        initialization: str = DEFAULTS.initialization,
        impl: Implementation = DEFAULTS.impl,
        *,
        bodies: int = 2,
        head: str = DEFAULTS.head,
        initialisation: str | None = None,
    ) -> None:
        super().__init__()
        initialization = initialisation or initialization
        check_choice("initialization", initialization, INITIALIZATIONS)
        check_choice("head", head, HEADS)
        self.modalities = tuple(modalities)
        check_derivable(self.modalities, get_layout(layout))
        self.layout = layout
        self.momentum = momentum
        self.temperature = temperature
        self.topk = topk
        self.context = context
        self.exchange_key_updates = tuple(m for m in self.modalities if m in exchange_key_updates)
        self.impl = impl

        make = encoder_maker(
            encoder,
            lambda size: projection(size, feature_dim, hidden_dim, head),
            hidden_channels=hidden_channels,
            hidden_dim=hidden_dim,
            num_classes=feature_dim,
            dropout=dropout,
            layout=layout,
            bodies=bodies,
            strategy=strategy,
            impl="reference" if impl == "reference" else "auto",
        )
        self.query_encoders = nn.ModuleDict({name: make() for name in self.modalities})
        if initialization == "published":
            self.query_encoders.apply(_published_weights)
        self.key_encoders = copy.deepcopy(self.query_encoders)
        if initialization == "published":
            self.key_encoders.apply(_published_weights)
        self.key_encoders.requires_grad_(False)

        width = len(self.modalities) * feature_dim
        self.exchange_heads = nn.ModuleDict(
            {
                name: two_layers(feature_size(encoder, hidden_dim or HIDDEN_DIM), width, width, head)
                for name, encoder in self.query_encoders.items()
            }
        )
        self.bank = MemoryBank(len(self.modalities), queue_size, feature_dim)

    def forward(
        self,
        x_q: torch.Tensor,
        x_k: torch.Tensor,
        frames: torch.Tensor | None = None,
        exchange: bool | Sequence[str] = False,
        augment_q: Mapping[str, torch.Tensor] | None = None,
        augment_k: Mapping[str, torch.Tensor] | None = None,
        gather: Callable[[torch.Tensor], torch.Tensor] | None = None,
        watch: Watch | None = None,
    ) -> torch.Tensor:
        """Take one step of pretraining up to the losses; in training mode key encoders and bank move on.

        Args:
            x_q, x_k: (N,3,T,V,M) two views of the same clips, N ≤ queue_size.
            frames: (N,) frame counts of the clips before resampling.
            exchange: phase 2, with all of its losses or with those of `EXCHANGE_LOSSES` that are named.
            augment_q, augment_k: {"shear": …, "crop_start": …} for `ops.derive_modalities`, which augments
                the view while it derives.
            gather: keys (P,n,D) → those that enter the bank (P,N,D): of all processes, where several train.
            watch: is shown queries and keys (P,N,D) and pooled features (P,N,hidden_dim), without gradients.

        Returns:
            (P,) losses, differentiable with respect to query encoders and exchange heads.
        """
        chosen = (EXCHANGE_LOSSES if exchange else ()) if isinstance(exchange, bool) else tuple(exchange)
        for name in chosen:
            check_choice("exchange", name, EXCHANGE_LOSSES)
        with span("query"):
            q, hidden = self.encode(self.query_encoders, x_q, frames, augment_q)
        with torch.no_grad(), span("key"):
            if self.training:
                self.update_keys(self.exchange_key_updates if chosen else self.modalities)
            k, _ = self.encode(self.key_encoders, x_k, frames, augment_k)
        # The bank changes below, before the backward pass reads it again.
        queue = self.bank.rows.clone() if torch.is_grad_enabled() and self.training else self.bank.rows
        with span("loss"):
            losses = self._losses(chosen, q, k, hidden, queue)
        if watch is not None:
            watch(q.detach(), k, hidden.detach())
        if self.training:
            self.bank.enqueue(k if gather is None else gather(k))
        return losses

    def _losses(self, chosen, q, k, hidden, queue):
        """(P,): the sum of the chosen losses of phase 2, or that of phase 1 where none is."""
        options: dict[str, Any] = {"temperature": self.temperature, "impl": self.impl}
        losses = 0
        if "cross_modal_contrast" in chosen:
            losses = ops.cross_modal_contrast(q, k, queue, topk=self.topk, context=self.context, **options)
        if "implicit_exchange" in chosen:
            heads = self.exchange_heads.values()
            z = torch.stack([head(feature) for head, feature in zip(heads, hidden, strict=True)])
            losses = losses + ops.implicit_exchange(z, k, queue, **options)
        return losses if chosen else ops.info_nce(q, k, queue, **options)

    def encode(
        self,
        encoders: nn.ModuleDict,
        x: torch.Tensor,
        frames: torch.Tensor | None,
        augmentation: Mapping[str, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map x (N,3,T,V,M) to outputs (P,N,D), features (P,N,H) of `encoders`, one a modality."""
        options: dict[str, Any] = {"modalities": self.modalities, "layout": self.layout, "impl": self.impl}
        options.update(augmentation or {})
        with span("augment+derive"):
            views = ops.derive_modalities(x, frames, **options)
        return encode_views(encoders, views)

    @torch.no_grad()
    def update_keys(self, modalities: Sequence[str]) -> None:
        """Move the key encoders' weights towards the query encoders': k ← momentum·k + (1 − momentum)·q."""
        keys: list[torch.Tensor] = [p for name in modalities for p in self.key_encoders[name].parameters()]
        queries: list[torch.Tensor] = [
            p for name in modalities for p in self.query_encoders[name].parameters()
        ]
        if keys:
            _check_resolution(keys[0].dtype, self.momentum)
            ops.ema_update_(keys, queries, self.momentum)


def _check_resolution(dtype, momentum):
    """Warn where a step of the moving average is below half a unit in the last place: it would not move."""
    if 0 < 1.0 - momentum < torch.finfo(dtype).eps / 2:
        warnings.warn(
            f"IKEM in {dtype}: key encoders do not follow at momentum {momentum}, whose steps are lost in "
            "rounding; train in float32, under torch.autocast for mixed precision",
            stacklevel=3,
        )


def _published_weights(module):
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
