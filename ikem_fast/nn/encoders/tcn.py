"""A convolutional net over time that takes the coordinates of all joints as channels."""

import torch
import torch.nn.functional as F
from torch import nn

from ikem_fast.nn.dropout import Dropout
from ikem_fast.nn.encoders.checks import (
    check_bodies,
    check_choice,
    check_clips,
    check_dropout,
    check_sizes,
    check_smoothing,
)
from ikem_fast.nn.encoders.pooling import joined_size, pool_bodies, pool_time, present_bodies
from ikem_fast.ops.encoder.convolution import autocast_dtype
from ikem_fast.ops.encoder.over_time import convolve_over_time
from ikem_fast.skeleton import Layout, get_layout

KERNEL = 5  # frames
DILATIONS = (1, 2, 4)  # of one block after the other, then from the first again


class TCN(nn.Module):
    """Encode skeleton clips by residual convolutions over time, joints as channels.

    What comes in is smoothed over time first, for differences of noisy joints are mostly noise: on UTD-MHAD
    a ridge map of smoothed accelerations finds 71 % of the actions, of raw ones 36. The net knows no graph:
    which joint moved stays in the channels, where a mean over joints would lose it. Each body goes through
    alone. The feature has every depth side by side, from the first convolution to the last block, each
    pooled by mean and maximum over parts of the clip, so that it tells when; the bodies of clips that may
    have several are pooled likewise. A body of zeros is absent and does not count. Bodies that go through
    together are seen as they stand to each other, each in its own channels: that is for clips in which two
    people act on each other, and which of them comes first matters then.

    Args:
        in_channels: C, coordinates of a joint.
        hidden_channels: width of the blocks.
        blocks: how many.
        segments: parts of the clip, equally long, that have a mean and a maximum each.
        stride: frames from one to the next that the blocks see.
        smoothing: standard deviation of the smoothing, in frames; 0 leaves it out.
        num_classes: size of the output.
        dropout: probability, at the end of every block.
        layout: name of a joint layout, or a `skeleton.Layout`.
        bodies: M, of a clip; with one, there is nothing to pool over bodies.
        together: whether the bodies of a clip go through side by side, as joints of one.

    Attributes:
        hidden_dim: size of the pooled feature, (blocks + 1) · hidden_channels · 2 segments, twice that for
            several bodies that go through alone.

    Raises:
        ValueError: an argument is out of range; forward: x has another shape.

    Under autocast it computes in autocast's dtype, but in bfloat16 only on a device that is fast at it.

    Example:
        output, feature = TCN(num_classes=60)(torch.randn(8, 3, 50, 25, 2))  # (8, 60), (8, 7680)

    Source: after Bai et al., An Empirical Evaluation of Generic Convolutional and Recurrent Networks (2018),
    and He et al., Identity Mappings in Deep Residual Networks (2016), figure 4e.
    """

    def __init__(
        self,
        in_channels: int = 3,
        hidden_channels: int = 128,
        blocks: int = 4,
        segments: int = 3,
        stride: int = 2,
        smoothing: float = 2.0,
        num_classes: int = 128,
        dropout: float = 0.1,
        layout: str | Layout = "ntu-rgb+d",
        bodies: int = 2,
        together: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(
            in_channels=in_channels,
            hidden_channels=hidden_channels,
            blocks=blocks,
            segments=segments,
            stride=stride,
            num_classes=num_classes,
            bodies=bodies,
        )
        check_dropout(dropout)
        check_smoothing(smoothing)
        check_choice(together=together)
        self.in_channels = in_channels
        self.joints = get_layout(layout).num_joints
        self.segments = segments
        self.bodies = bodies
        self.together = together
        self.smoothing = smoothing
        joined, apart = (bodies, 1) if together else (1, bodies)
        self.hidden_dim = joined_size((blocks + 1) * hidden_channels, segments, apart)
        self.data_bn = nn.BatchNorm1d(in_channels * self.joints * joined)
        self.inputs = OverTime(in_channels * self.joints * joined, hidden_channels, KERNEL, stride=stride)
        self.blocks = nn.ModuleList(
            Block(hidden_channels, DILATIONS[i % len(DILATIONS)], dropout) for i in range(blocks)
        )
        self.bn = nn.BatchNorm1d(hidden_channels)
        self.fc = nn.Linear(self.hidden_dim, num_classes)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map x (N,C,T,V,M) to (output (N,num_classes), pooled feature (N,hidden_dim))."""
        check_clips(x, self.in_channels, self.joints)
        if self.together:
            check_bodies(x, self.bodies)
            x = x.transpose(3, 4).flatten(3)[..., None]  # (N,C,T,M·V,1)
        N, _, T, _, M = x.shape
        dtype = autocast_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            frames = x.permute(2, 0, 4, 3, 1).reshape(T, -1)
            if self.smoothing:
                frames = smoothing_matrix(T, self.smoothing, x) @ frames
            rows = self.data_bn(frames.view(T * N * M, -1))
            y = self.inputs(rows.to(dtype), N * M)
            depths = []
            for block in self.blocks:
                y, seen = block(y, N * M)
                depths.append(seen)
            depths.append(F.relu(self.bn(y)))
            pooled = [pool_time(depth.view(-1, N, M, depth.shape[1]), self.segments) for depth in depths]
            y = torch.cat(pooled, -1).to(x.dtype)
            feature = pool_bodies(y, present_bodies(x), maximum=self.bodies > 1 and not self.together)
        return self.fc(feature), feature


def smoothing_matrix(frames: int, sigma: float, like: torch.Tensor) -> torch.Tensor:
    """Make the matrix (T,T) that smooths T frames: Gaussian, renormalized where the clip ends."""
    t = torch.arange(frames, dtype=like.dtype, device=like.device)
    return torch.softmax(-0.5 * ((t[:, None] - t) / sigma) ** 2, 1)


class Block(nn.Module):
    """Two convolutions over time, each behind a normalization, and what came in added at the end."""

    def __init__(self, channels, dilation, dropout):
        super().__init__()
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv1 = OverTime(channels, channels, KERNEL, dilation)
        self.bn2 = nn.BatchNorm1d(channels)
        self.conv2 = OverTime(channels, channels, 1)
        self.dropout = Dropout(dropout)

    def forward(self, x, clips):
        """x (T·B,C), rows in time's order → the same shape, and what the block saw of x: normalized, ≥ 0."""
        seen = F.relu(self.bn1(x))
        y = self.conv1(seen, clips)
        return x + self.dropout(self.conv2(F.relu(self.bn2(y)), clips)), seen


class OverTime(nn.Conv1d):
    """A convolution over time of rows (T·B,C), see `ops.encoder.over_time`."""

    def __init__(self, in_channels, out_channels, kernel, dilation=1, stride=1):
        super().__init__(in_channels, out_channels, kernel, dilation=dilation, stride=stride)

    def forward(self, x, clips):
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        (dilation,), (stride,) = self.dilation, self.stride
        return convolve_over_time(x, weight, bias, clips=clips, dilation=dilation, stride=stride)
