"""The products of an encoder's block: over the graph, over time, and back.

Weights are matrices of (channels made, channels given), one for each partition of the graph or each tap, in
the dtype of the activations; sums are float32.
"""

from collections import namedtuple

import triton
import triton.language as tl

from ikem_fast.ops._triton import matmul
from ikem_fast.ops.encoder.triton.rows import (
    Channels,
    Tile,
    ahead_of_relu,
    load_channels,
    load_rows,
    load_weight,
    normalized,
    standardized,
    store_moments,
    store_rows,
    store_sums,
    tile_of_program,
)

# What a product is compiled for: channels given and made, how they are multiplied, tiles.
Factors = namedtuple("Factors", "GIVEN MADE PRECISION WIDEN ROWS BLOCK_GIVEN BLOCK_MADE")
# The parameters of a convolution; back it has no bias.
Convolution = namedtuple("Convolution", "weight_ptr bias_ptr")
# What a convolution makes, and the moments of its tiles or None.
Result = namedtuple("Result", "y_ptr moments_ptr")
# The graph, A (K,V,V) float32, and its edges (2, K, MOST, joints) int32: of each partition and joint those at
# the other ends, −1 where there are fewer than MOST, and where the edges stand in A.
Adjacency = namedtuple("Adjacency", "A_ptr edges_ptr joints")
# The most edges that a joint has: of any partition, and of each.
Degrees = namedtuple("Degrees", "MOST COUNTS")
# A convolution over time: every how manieth frame it makes, and of how many.
Window = namedtuple("Window", "STRIDE TAPS")
# Activations (clips, frames, joints, ·).
Clips = namedtuple("Clips", "frames joints")
# Where rows are in clips, and which of them there are; a time may be before the first frame or past the last.
Place = namedtuple("Place", "clip time joint live")


@triton.jit
def edge(adjacency, k, number, joint, live, DEGREES: tl.constexpr):
    """Of each joint's edge of that number in partition k: the other end, whether there is one, its A or 0."""
    ends: tl.constexpr = len(DEGREES.COUNTS) * DEGREES.MOST
    place = (k * DEGREES.MOST + number) * adjacency.joints + joint
    end = tl.load(adjacency.edges_ptr + place, mask=live, other=-1)
    there = end >= 0
    at = tl.load(adjacency.edges_ptr + ends * adjacency.joints + place, mask=there, other=0)
    return end, there, tl.where(there, tl.load(adjacency.A_ptr + at), 0.0)


@triton.jit
def store_result(result, tile, y):
    """Store what was made, rounded, and of that the moments if asked for."""
    stored = y.to(result.y_ptr.dtype.element_ty)
    store_rows(result.y_ptr, tile, stored)
    if result.moments_ptr is not None:
        store_moments(result.moments_ptr, tile, stored.to(tl.float32))


@triton.jit
def graph_kernel(
    x_ptr, adjacency, convolution, past, result, rows,
    DEGREES: tl.constexpr, TRANSPOSED: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """y = Σ_k (Σ_edges A x) W_k + what arrives of the bias; or, TRANSPOSED, the gradient in x from one in y.

    Grid: (row tiles, tiles of made channels). past: the `Rectified` gradient that is added, or nothing.
    """
    ROWS: tl.constexpr = FACTORS.ROWS
    GIVEN: tl.constexpr = FACTORS.GIVEN
    BLOCK_GIVEN: tl.constexpr = FACTORS.BLOCK_GIVEN
    BLOCK_MADE: tl.constexpr = FACTORS.BLOCK_MADE
    PARTITIONS: tl.constexpr = len(DEGREES.COUNTS)
    tile = tile_of_program(rows, FACTORS.MADE, ROWS, BLOCK_MADE)
    joint = tile.row % adjacency.joints
    y = tl.zeros((ROWS, BLOCK_MADE), tl.float32)
    for k in tl.static_range(PARTITIONS):
        for first in tl.static_range(0, GIVEN, BLOCK_GIVEN):
            given = Channels(first + tl.arange(0, BLOCK_GIVEN), GIVEN)
            gathered = tl.zeros((ROWS, BLOCK_GIVEN), tl.float32)
            total = tl.zeros((ROWS,), tl.float32)
            for number in tl.static_range(tl.constexpr(DEGREES.COUNTS[k])):
                end, there, a = edge(adjacency, k, number, joint, tile.live, DEGREES)
                gathered += a[:, None] * load_rows(x_ptr, Tile(tile.row - joint + end, there, given))
                total += a
            w = load_weight(convolution.weight_ptr, k, given, tile.channels, TRANSPOSED)
            y = matmul(gathered.to(w.dtype), w, y, FACTORS)
            if convolution.bias_ptr is not None:  # noqa: SIM102 (Triton decides each by itself)
                if first == 0:
                    y += total[:, None] * load_channels(convolution.bias_ptr, k, tile.channels)
    if past.grad_ptr is not None:
        y += ahead_of_relu(past, tile)
    store_result(result, tile, y)


@triton.jit
def first_taps(row, live, clips, WINDOW: tl.constexpr):
    """The `Place` in `clips` of the first tap of each row of what a convolution over time makes of them."""
    fewer = (clips.frames - 1) // WINDOW.STRIDE + 1
    time = (row // clips.joints) % fewer * WINDOW.STRIDE - (WINDOW.TAPS - 1) // 2
    return Place(row // clips.joints // fewer, time, row % clips.joints, live)


@triton.jit
def tile_at(time, place, clips, channels):
    """The `Tile` of rows that are in a place of `clips`, but at that time."""
    live = place.live & (time >= 0) & (time < clips.frames)
    return Tile((place.clip * clips.frames + time) * clips.joints + place.joint, live, channels)


@triton.jit
def over_taps(
    x_ptr, weight_ptr, clips, place, tap, made,
    WINDOW: tl.constexpr, TRANSPOSED: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """Σ over taps, from `tap` on, of x, `clips` as wide as was given, from a place on, · W_tap.

    Forward, taps and times rise by 1; back (TRANSPOSED), taps rise by STRIDE while times fall by 1.
    """
    TAPS: tl.constexpr = WINDOW.TAPS
    STEPS: tl.constexpr = (TAPS - 1) // WINDOW.STRIDE + 1 if TRANSPOSED else TAPS
    GIVEN: tl.constexpr = FACTORS.GIVEN
    BLOCK_GIVEN: tl.constexpr = FACTORS.BLOCK_GIVEN
    y = tl.zeros((place.live.shape[0], made.channel.shape[0]), tl.float32)
    for step in tl.static_range(STEPS):
        if TRANSPOSED:
            at = tap + step * WINDOW.STRIDE
            time = tl.where(at < TAPS, place.time - step, -1)
        else:
            at = tap + step
            time = place.time + step
        for first in tl.static_range(0, GIVEN, BLOCK_GIVEN):
            given = Channels(first + tl.arange(0, BLOCK_GIVEN), GIVEN)
            x = load_rows(x_ptr, tile_at(time, place, clips, given))
            w = load_weight(weight_ptr, tl.minimum(at, TAPS - 1), given, made, TRANSPOSED)
            y = matmul(x, w, y, FACTORS)
    return y


@triton.jit
def temporal_kernel(
    x_ptr, convolution, result, rows, clips, WINDOW: tl.constexpr, FACTORS: tl.constexpr
):  # fmt: skip
    """y (clips, ⌈frames/STRIDE⌉, joints, MADE): x (clips, frames, joints, GIVEN), convolved over time.

    Grid: (row tiles, tiles of made channels).
    """
    tile = tile_of_program(rows, FACTORS.MADE, FACTORS.ROWS, FACTORS.BLOCK_MADE)
    place = first_taps(tile.row, tile.live, clips, WINDOW)
    y = over_taps(x_ptr, convolution.weight_ptr, clips, place, 0, tile.channels, WINDOW, False, FACTORS)
    store_result(result, tile, y + load_channels(convolution.bias_ptr, 0, tile.channels))


@triton.jit
def temporal_backward_kernel(
    grad_ptr, y, weight_ptr, grad_x_ptr, sums_ptr, rows, clips, WINDOW: tl.constexpr, FACTORS: tl.constexpr
):
    """The gradient in what `temporal_kernel` took, MADE channels wide, from that in what it made.

    Grid: (row tiles, tiles of made channels, STRIDE phases): frames of the same phase, frame % STRIDE, meet
    the same taps; `rows` are those of one phase. y: None, or what was `Normalized` and had a ReLU ahead of
    the convolution: the gradient is 0 where that is not above 0, and the tile's sums are left: of it, and of
    it times the standardized y.
    """
    STRIDE: tl.constexpr = WINDOW.STRIDE
    phase = tl.program_id(2)
    index = tl.program_id(0) * FACTORS.ROWS + tl.arange(0, FACTORS.ROWS)
    most = (clips.frames - 1) // STRIDE + 1  # of a phase's frames
    joint, clip = index % clips.joints, index // clips.joints // most
    time = (index // clips.joints) % most * STRIDE + phase
    live = (index < rows) & (time < clips.frames)
    channel = tl.program_id(1) * FACTORS.BLOCK_MADE + tl.arange(0, FACTORS.BLOCK_MADE)
    made = Channels(channel, FACTORS.MADE)
    pad: tl.constexpr = (WINDOW.TAPS - 1) // 2
    tap = (phase + pad) % STRIDE
    place = Place(clip, (time + pad - tap) // STRIDE, joint, live)
    fewer = Clips(most, clips.joints)
    grad = over_taps(grad_ptr, weight_ptr, fewer, place, tap, made, WINDOW, True, FACTORS)
    tile = Tile((clip * clips.frames + time) * clips.joints + joint, live, made)
    if y is not None:
        taken = load_rows(y.y_ptr, tile)
        grad = tl.where(normalized(taken, y.table_ptr, made) > 0, grad, 0.0)
    stored = grad.to(grad_x_ptr.dtype.element_ty)
    store_rows(grad_x_ptr, tile, stored)
    if y is not None:
        grad = tl.where(live[:, None], stored.to(tl.float32), 0.0)
        times = tl.sum(grad * standardized(taken, y.table_ptr, made), 0)
        number = phase * tl.num_programs(0) + tl.program_id(0)
        store_sums(sums_ptr, number, tl.num_programs(0) * STRIDE, made, tl.sum(grad, 0), times)
