"""The encoder: ST-GCN at a quarter of the usual width, with its published parameter names.

The modules here are the definition, in plain torch; `ops.encoder` computes the same blocks faster.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, overload

import torch
import torch.nn.functional as F
from torch import nn

from ikem_fast.nn.encoders.checks import check_clips, check_dropout, check_sizes
from ikem_fast.nn.encoders.pooling import joined_size, pool_bodies, pool_time, present_bodies
from ikem_fast.ops._checks import check_choice
from ikem_fast.ops._support import IMPLEMENTATIONS, Implementation, takes_fused
from ikem_fast.ops.encoder import fused_blocks, fused_together
from ikem_fast.ops.encoder.support import (
    Kinds,
    activation_dtype,
    by_triton,
    calls_nothing_else,
    pays,
    support_for,
    support_together,
)
from ikem_fast.skeleton import Layout, get_layout

TEMPORAL_KERNEL = 9
HIDDEN_CHANNELS, HIDDEN_DIM, DROPOUT = 16, 256, 0.5  # as published
STRATEGY: Final = "spatial"  # as published
POOLINGS = ("mean", "parts", "meanmax")

Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
Drop: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


class STGCN(nn.Module):
    """Encode skeleton clips by a spatial-temporal graph convolutional network.

    Ten blocks of a graph convolution over joints and a convolution over time: 16×4, 32×3, 64×2 channels
    (at hidden_channels=16; the frame rate halves where the width doubles) and a last one of `hidden_dim`.
    Parameter names and shapes are those of ST-GCN, CrosSCLR, AimCLR and IKEM, so that their checkpoints
    load with `load_state_dict`.

    Args:
        in_channels: C, coordinates of a joint.
        hidden_channels: width of the first block.
        hidden_dim: width of the last block.
        num_classes: size of the output.
        dropout: probability, in every block but the first.
        layout: name of a joint layout, or a `skeleton.Layout`.
        strategy: how the graph is partitioned, see `skeleton.Layout.adjacency`.
        edge_importance_weighting: learn a weight for each edge and block.
        pooling: "mean" of joints, times and bodies, as published; "meanmax" puts the maximum of joints and
            times beside the mean; "parts" keeps which part of a body moved, by the mean and maximum over time
            of each of `skeleton.Layout.parts`, side by side. With the last two, bodies are pooled by mean and
            maximum too, and those of zeros do not count.
        bodies: M, of a clip; for the size of the feature where it is pooled otherwise than by "mean".
        impl: "reference" computes every block in plain torch; "fused" by the kernels of `ops.encoder`, and
            raises where there are none; "auto" takes them where they serve.

    Attributes:
        hidden_dim: size of the pooled feature: as the argument, times what the pooling puts side by side.

    Raises:
        ValueError: an argument is out of range; forward: x has another shape.
        RuntimeError: forward: impl="fused" and the kernels cannot compute this: another device or dtype,
            modules that were hooked or replaced, a transform of torch.func. The message says which.

    Example:
        output, feature = STGCN(num_classes=60)(torch.randn(8, 3, 50, 25, 2))  # (8, 60), (8, 256)

    Source: Yan et al., Spatial Temporal Graph Convolutional Networks (2018), section 3.
    """

    A: torch.Tensor
    edge_importance: nn.ParameterList | list[float]

    def __init__(
        self,
        in_channels: int = 3,
        hidden_channels: int = HIDDEN_CHANNELS,
        hidden_dim: int = HIDDEN_DIM,
        num_classes: int = 128,
        dropout: float = DROPOUT,
        layout: str | Layout = "ntu-rgb+d",
        strategy: str = STRATEGY,
        edge_importance_weighting: bool = True,
        impl: Implementation = "auto",
        pooling: str = "mean",
        bodies: int = 2,
    ) -> None:
        super().__init__()
        check_sizes(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            hidden_dim=hidden_dim,
            num_classes=num_classes,
            bodies=bodies,
        )
        check_choice("pooling", pooling, POOLINGS)
        check_dropout(dropout)
        check_choice("impl", impl, IMPLEMENTATIONS)
        self.impl = impl
        adjacency = torch.from_numpy(get_layout(layout).adjacency(strategy))
        self.register_buffer("A", adjacency)
        partitions, joints, _ = adjacency.shape
        self.data_bn = nn.BatchNorm1d(in_channels * joints)

        width = hidden_channels
        widths = [in_channels] + [width] * 4 + [2 * width] * 3 + [4 * width] * 2 + [hidden_dim]
        self.st_gcn_networks = nn.ModuleList(
            Block(
                widths[i],
                widths[i + 1],
                partitions,
                stride=2 if i in (4, 7) else 1,
                dropout=dropout if i else 0.0,
                residual=i > 0,
            )
            for i in range(10)
        )
        if edge_importance_weighting:
            self.edge_importance = nn.ParameterList(
                nn.Parameter(torch.ones_like(adjacency)) for _ in self.st_gcn_networks
            )
        else:
            self.edge_importance = [1.0] * len(self.st_gcn_networks)
        self.pooling = pooling
        self.bodies = bodies
        self.parts = get_layout(layout).parts() if pooling == "parts" else ()
        pooled = hidden_dim if pooling == "mean" else joined_size(hidden_dim, 1, bodies)
        self.hidden_dim = pooled * max(len(self.parts), 1)
        self.fc = nn.Linear(self.hidden_dim, num_classes)

    @overload
    def forward(self, x: torch.Tensor) -> Pair: ...

    @overload
    def forward(self, x: torch.Tensor, drop: Drop) -> tuple[Pair, Pair]: ...

    def forward(self, x: torch.Tensor, drop: Drop | None = None) -> Pair | tuple[Pair, Pair]:
        """Map x (N,C,T,V,M) to (output (N,num_classes), pooled feature (N,hidden_dim)).

        With `drop`, a function of the last block's activations (N·M,C',T',V) that gives others of that shape,
        such as AimCLR's dropout by attention: to such a pair of the clip, and another of what it dropped.
        """
        given = self._normalized(x)
        return self._encoded(x, given, [self.A * importance for importance in self.edge_importance], drop)

    def _normalized(self, x):
        """Clips x as the blocks take them, (N·M,C,T,V), in memory (N·M,V,C,T)."""
        joints = self.A.shape[-1]
        check_clips(x, self.data_bn.num_features // joints, joints)
        N, C, T, V, M = x.shape
        x = x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T)
        return self.data_bn(x).view(N * M, V, C, T).permute(0, 2, 3, 1)

    def _encoded(self, clips, x, graphs, drop=None):
        """What `forward` gives for clips that have been normalized to x."""
        present = None if self.pooling == "mean" else present_bodies(clips)
        fuses = self._fuses(x, graphs)
        if fuses:
            x = x.permute(0, 2, 3, 1).to(activation_dtype(x)).contiguous()
            x = fused_blocks(self.st_gcn_networks, x, graphs, self.A).permute(0, 3, 1, 2)
        else:
            for block, A in zip(self.st_gcn_networks, graphs, strict=True):
                x = block(x, A)
        whole = self._pooled(x, clips.shape[0], present, fuses)
        return whole if drop is None else (whole, self._pooled(drop(x), clips.shape[0], present, fuses))

    def _pooled(self, x, clips, present, channels_last):
        """Output and feature of activations (N·M,C,T,V); how they lie in memory decides what is fast."""
        if present is not None:
            feature = self._side_by_side(x.permute(0, 2, 3, 1), present)
        elif channels_last:
            feature = x.permute(0, 2, 3, 1).reshape(clips, -1, x.shape[1]).mean(1)
        else:
            feature = x.mean((2, 3)).view(clips, -1, x.shape[1]).mean(1)
        return self.fc(feature), feature

    def _side_by_side(self, x, present):
        """Pool x (N·M,T,V,C) otherwise than by the mean; present (N,M)."""
        if self.parts:
            y = torch.stack([x[:, :, part].mean(2) for part in self.parts], 2)
            y = pool_time(y.transpose(0, 1)).flatten(1)
        else:
            y = pool_time(x.flatten(1, 2).transpose(0, 1))
        return pool_bodies(y.view(*present.shape, -1), present, maximum=self.bodies > 1)

    def _fuses(self, x, graphs):
        if self.impl == "reference" or (self.impl == "auto" and not pays(x)):
            return False
        return takes_fused(self.impl, support_for(x, self.st_gcn_networks, graphs, KINDS))


def encode_together(encoders: Sequence[nn.Module], clips: Sequence[torch.Tensor]) -> list[Pair]:
    """Map clips (N,C,T,V,M) to (output, feature), each through its own encoder.

    Where Triton kernels compute them, `STGCN`s that are alike but for their numbers share the launches.
    """
    known = [encoder for encoder in encoders if isinstance(encoder, STGCN)]
    if not by_triton(clips[0]) or len(known) < len(encoders) or not _alike(known):
        return [encoder(x) for encoder, x in zip(encoders, clips, strict=True)]
    return _encoded_together(known, clips)


def _encoded_together(encoders, clips):
    """`encode_together` for encoders that are alike outside of their blocks."""
    given = [encoder._normalized(x) for encoder, x in zip(encoders, clips, strict=True)]
    graphs, blocks = _graphs(encoders), [encoder.st_gcn_networks for encoder in encoders]
    each = list(zip(encoders, clips, given, zip(*graphs, strict=True), strict=True))
    if not (
        len({(x.shape, x.dtype, x.device, x.requires_grad) for x in given}) == 1
        and all(encoder._fuses(x, own) for encoder, _, x, own in each)
        and support_together(given[0], blocks)
    ):
        return [encoder._encoded(*parts) for encoder, *parts in each]
    x = torch.stack([x.permute(0, 2, 3, 1) for x in given]).to(activation_dtype(given[0]))
    x = fused_together(blocks, x.contiguous(), graphs)
    if encoders[0].pooling == "mean":
        features = x.view(len(x), clips[0].shape[0], -1, x.shape[-1]).mean(2)
        return [(encoder.fc(feature), feature) for encoder, feature in zip(encoders, features, strict=True)]
    return [
        encoder._pooled(one.permute(0, 3, 1, 2), of.shape[0], present_bodies(of), True)
        for encoder, one, of in zip(encoders, x, clips, strict=True)
    ]


def _alike(encoders):
    """Say whether encoders differ in numbers alone; their blocks are another question."""
    if torch.compiler.is_compiling() or not all(calls_nothing_else(encoder, STGCN) for encoder in encoders):
        return False
    forms = set()
    for encoder in encoders:
        A, weights = encoder.A, [w for w in encoder.edge_importance if isinstance(w, torch.Tensor)]
        if any((w.shape, w.device, w.dtype) != (A.shape, A.device, A.dtype) for w in weights):
            return False
        learned = tuple(w.requires_grad for w in weights)
        forms.add((encoder.pooling, encoder.impl, A.shape, A.device, A.dtype, learned))
    return len(forms) == 1


def _graphs(encoders):
    """A (P,K,V,V) of encoders that are alike, for each place of a block."""
    A = torch.stack([encoder.A for encoder in encoders])
    places = zip(*(encoder.edge_importance for encoder in encoders), strict=True)
    importance = [one for place in places for one in place]
    if not isinstance(importance[0], torch.Tensor):
        return [A] * len(encoders[0].edge_importance)
    return list(A * torch.stack(importance).view(-1, *A.shape))


class Block(nn.Module):
    """Graph convolution, temporal convolution, and a residual connection around both."""

    def __init__(self, in_channels, out_channels, partitions, stride, dropout, residual):
        super().__init__()
        self.gcn = GraphConvolution(in_channels, out_channels, partitions)
        padding = ((TEMPORAL_KERNEL - 1) // 2, 0)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(out_channels),
            nn.ReLU(),
            nn.Conv2d(out_channels, out_channels, (TEMPORAL_KERNEL, 1), (stride, 1), padding),
            nn.BatchNorm2d(out_channels),
            nn.Dropout(dropout),
        )
        if not residual:
            self.residual = None
        elif in_channels == out_channels and stride == 1:
            self.residual = nn.Identity()
        else:
            self.residual = nn.Sequential(
                Pointwise(in_channels, out_channels, 1, (stride, 1)), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x, A):
        """x (N,C,T,V), A (3,V,V) → (N,C',T',V)."""
        y = self.tcn(self.gcn(x, A))
        return F.relu(y if self.residual is None else y + self.residual(x))


class Pointwise(nn.Conv2d):
    """A 1×1 convolution that skips frames before it computes, not while.

    oneDNN 3.12 (torch 2.13, 2.14) corrupts memory in the backward pass of strided ones with few channels; see
    docs/reliability-of-libraries.md.
    """

    def forward(self, x):
        return F.conv2d(x[:, :, :: self.stride[0], :: self.stride[1]].contiguous(), self.weight, self.bias)


class GraphConvolution(nn.Module):
    """Σ_k (W_k x + b_k) A_k: a 1×1 convolution for each partition of the graph."""

    def __init__(self, in_channels, out_channels, partitions):
        super().__init__()
        self.partitions = partitions
        self.conv = nn.Conv2d(in_channels, out_channels * partitions, 1)

    def forward(self, x, A):
        """x (N,C,T,V), A (K,V,V) → (N,C',T,V).

        Training in float32 keeps the published order, convolution first: gradients that are zero in exact
        arithmetic (a bias ahead of a normalisation) are pure rounding, and come out alike only that way.
        """
        exact = torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type)
        return self._convolution_first(x, A) if exact else self._graph_first(x, A)

    def _convolution_first(self, x, A):
        N, _, T, V = x.shape
        y = self.conv(x.contiguous()).view(N, self.partitions, -1, T, V)
        return torch.einsum("nkctv,kvw->nctw", y, A).contiguous()

    def _graph_first(self, x, A):
        """W_k (x A_k): K·C channels through the graph, not K·C'; the bias enters as b_k Σ_v A_k[v, w]."""
        N, C, T, V = x.shape
        K = self.partitions
        weight = self.conv.weight.view(K, -1, C).permute(1, 0, 2).reshape(-1, K * C, 1, 1)
        x = x.reshape(N, C * T, V) @ A.permute(1, 0, 2).reshape(V, K * V)
        x = x.view(N, C, T, K, V).permute(0, 3, 1, 2, 4).reshape(N, K * C, T, V)
        bias = self.conv.bias.view(K, -1).T @ A.sum(1)
        return F.conv2d(x, weight) + bias[:, None]


KINDS = Kinds(Block, GraphConvolution, Pointwise)
