"""A small transformer over tokens of one joint and a few frames."""

import torch
import torch.nn.functional as F
from torch import nn

from ikem_fast.nn.dropout import Dropout
from ikem_fast.nn.encoders.checks import check_clips, check_dropout, check_sizes
from ikem_fast.nn.encoders.pooling import joined_size, pool_bodies, pool_time, present_bodies
from ikem_fast.ops.encoder.convolution import autocast_dtype
from ikem_fast.skeleton import Layout, get_layout

TIMES = 10  # learned embeddings of time, from a clip's beginning to its end; other numbers lie between them


class Transformer(nn.Module):
    """Encode skeleton clips by attention among all joints at all times.

    A token is one joint's coordinates in a few frames after each other, with learned embeddings of the joint
    and of the time. Each body goes through alone; tokens are pooled by mean and maximum side by side, and so
    are the bodies of clips that may have several. A body of zeros is absent and does not count.

    MAMP's encoder, which this one is a small form of, has tokens of 4 frames, 8 layers of width 256 and
    8 heads; the clips/s and FLOPs of both sizes are in docs/performance/encoders.md.

    Args:
        in_channels: C, coordinates of a joint.
        hidden_channels: width of a token.
        layers: how many.
        heads: of the attention; the width is a multiple of it.
        frames: of a token; a clip's last frame is repeated where they do not fill the last token.
        num_classes: size of the output.
        dropout: probability, behind attention and behind the two linear layers.
        layout: name of a joint layout, or a `skeleton.Layout`.
        bodies: M, of a clip; with one, there is nothing to pool over bodies.

    Attributes:
        hidden_dim: size of the pooled feature, 2 · hidden_channels, twice that for several bodies.

    Raises:
        ValueError: an argument is out of range; forward: x has another shape.

    Example:
        output, feature = Transformer(num_classes=60)(torch.randn(8, 3, 50, 25, 2))  # (8, 60), (8, 512)

    Source: after Mao et al., Masked Motion Predictors are Strong 3D Action Representation Learners (2023),
    section 3.2.
    """

    def __init__(
        self,
        in_channels: int = 3,
        hidden_channels: int = 128,
        layers: int = 3,
        heads: int = 4,
        frames: int = 5,
        num_classes: int = 128,
        dropout: float = 0.1,
        layout: str | Layout = "ntu-rgb+d",
        bodies: int = 2,
    ) -> None:
        super().__init__()
        check_sizes(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            layers=layers,
            heads=heads,
            frames=frames,
            num_classes=num_classes,
            bodies=bodies,
        )
        if hidden_channels % heads:
            raise ValueError(f"heads: expected a divisor of {hidden_channels}, the width, found {heads}")
        check_dropout(dropout)
        self.in_channels = in_channels
        self.joints = get_layout(layout).num_joints
        self.frames = frames
        self.bodies = bodies
        self.hidden_dim = joined_size(hidden_channels, 1, bodies)
        self.data_bn = nn.BatchNorm1d(in_channels * self.joints)
        self.tokens = nn.Linear(frames * in_channels, hidden_channels)
        self.of_joint = nn.Parameter(0.02 * torch.randn(self.joints, hidden_channels))
        self.of_time = nn.Parameter(0.02 * torch.randn(TIMES, hidden_channels))
        self.layers = nn.ModuleList(Layer(hidden_channels, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_channels)
        self.fc = nn.Linear(self.hidden_dim, num_classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map x (N,C,T,V,M) to (output (N,num_classes), pooled feature (N,hidden_dim))."""
        check_clips(x, self.in_channels, self.joints)
        N, C, T, V, M = x.shape
        dtype = autocast_dtype(x)
        mixed = dtype != x.dtype
        with torch.autocast(x.device.type, dtype if mixed else None, enabled=mixed):
            y = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(N * M, V * C, T))
            y = F.pad(y, (0, -T % self.frames), mode="replicate").view(N * M, V, C, -1, self.frames)
            y = self.tokens(y.permute(0, 3, 1, 2, 4).flatten(3))  # (N·M, times, V, width)
            y = (y + self.of_joint + self._of_times(y.shape[1])).flatten(1, 2)
            for layer in self.layers:
                y = layer(y)
            y = pool_time(self.norm(y).transpose(0, 1)).to(x.dtype).view(N, M, -1)
            feature = pool_bodies(y, present_bodies(x), maximum=self.bodies > 1)
        return self.fc(feature), feature

    def _of_times(self, times):
        """Embeddings of so many times (times,1,width)."""
        known = self.of_time
        if times != TIMES:
            known = F.interpolate(known.T[None], times, mode="linear", align_corners=False)[0].T
        return known[:, None]


class Layer(nn.Module):
    """Attention, then two linear layers, each behind a normalization, with what came in added."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x):
        """x (B,tokens,width) → the same shape."""
        qkv = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv.unbind(0)).transpose(1, 2).flatten(2)
        x = x + self.dropout(self.joined(attended))
        return x + self.dropout(self.narrow(F.gelu(self.wide(self.norm2(x)))))
