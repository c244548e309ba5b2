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
    encoder,
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
# The graph, A (encoders, PARTITIONS, JOINTS, JOINTS) float32 of edges from one joint to another; JOINTS fill
# up a BLOCK, a power of two.
Graph = namedtuple("Graph", "PARTITIONS JOINTS BLOCK")
# A convolution over time: every how manieth frame it makes, and of how many; rows from one frame to the next.
Window = namedtuple("Window", "STRIDE TAPS JOINTS")
# Rows of activations, their time, and which of them there are; a time may be before the first frame or past
# the last.
Place = namedtuple("Place", "row time live")


@triton.jit
def tile_of_frames(number, frames, channels, GRAPH: tl.constexpr, FACTORS: tl.constexpr):
    """The `Tile` of that number of an encoder's frames: the first joint of each, the second of each, …"""
    HELD: tl.constexpr = FACTORS.ROWS // GRAPH.BLOCK
    lane = tl.arange(0, FACTORS.ROWS)
    joint, frame = lane // HELD, number * HELD + lane % HELD
    live = (joint < GRAPH.JOINTS) & (frame < frames)
    return Tile((encoder() * frames + frame) * GRAPH.JOINTS + joint, live, channels)


@triton.jit
def by_joint(rows, GRAPH: tl.constexpr):
    """Rows of such a tile (BLOCK·frames, channels) as (BLOCK, frames·channels): a row for each joint."""
    WIDTH: tl.constexpr = rows.shape[0] * rows.shape[1] // GRAPH.BLOCK
    return tl.reshape(rows, (GRAPH.BLOCK, WIDTH))


@triton.jit
def by_row(joints, FACTORS: tl.constexpr):
    """Back again, of joints (BLOCK, frames·channels)."""
    WIDTH: tl.constexpr = joints.shape[0] * joints.shape[1] // FACTORS.ROWS
    return tl.reshape(joints, (FACTORS.ROWS, WIDTH))


@triton.jit
def load_graph(A_ptr, k, GRAPH: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Partition k of A (BLOCK, BLOCK), [from, to]; or the other way around if TRANSPOSED."""
    row, column = tl.arange(0, GRAPH.BLOCK)[:, None], tl.arange(0, GRAPH.BLOCK)[None, :]
    if TRANSPOSED:
        start, end = column, row
    else:
        start, end = row, column
    offset = ((encoder() * GRAPH.PARTITIONS + k) * GRAPH.JOINTS + start) * GRAPH.JOINTS + end
    return tl.load(A_ptr + offset, mask=(row < GRAPH.JOINTS) & (column < GRAPH.JOINTS), other=0.0)


@triton.jit
def add_product(y, x, w, FACTORS: tl.constexpr):
    """y + x w. A wide y is computed on its side: a thread then has many rows of few channels to sum over."""
    if FACTORS.BLOCK_MADE > 64:
        y = tl.trans(matmul(tl.trans(w), tl.trans(x), tl.trans(y), FACTORS))
    else:
        y = matmul(x, w, y, FACTORS)
    return y


@triton.jit
def store_result(result, tile, y):
    """Store what was made, rounded, and of that the moments if asked for."""
    stored = y.to(result.y_ptr.dtype.element_ty)
    store_rows(result.y_ptr, tile, stored)
    if result.moments_ptr is not None:
        store_moments(result.moments_ptr, tile, stored.to(tl.float32))


@triton.jit
def graph_kernel(
    x_ptr, A_ptr, weight_ptr, arriving_ptr, past, result, frames,
    GRAPH: tl.constexpr, TRANSPOSED: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """y = Σ_k A_kᵀ x W_k + what arrives at each joint; or, TRANSPOSED, the gradient in x from one in y.

    Grid: (tiles of frames, tiles of made channels, encoders). arriving: of the bias, (encoders, JOINTS,
    MADE), or None. past: the `Rectified` gradient that is added, or nothing.
    """
    PARTITIONS: tl.constexpr = GRAPH.PARTITIONS
    BLOCK: tl.constexpr = GRAPH.BLOCK
    ROWS: tl.constexpr = FACTORS.ROWS
    GIVEN: tl.constexpr = FACTORS.GIVEN
    BLOCK_GIVEN: tl.constexpr = FACTORS.BLOCK_GIVEN
    BLOCK_MADE: tl.constexpr = FACTORS.BLOCK_MADE
    HELD: tl.constexpr = ROWS // BLOCK
    made = Channels(tl.program_id(1) * BLOCK_MADE + tl.arange(0, BLOCK_MADE), FACTORS.MADE)
    tile = tile_of_frames(tl.program_id(0), frames, made, GRAPH, FACTORS)
    y = tl.zeros((ROWS, BLOCK_MADE), tl.float32)
    if arriving_ptr is not None:
        joint = tl.arange(0, BLOCK)
        own = Tile(encoder() * GRAPH.JOINTS + joint, joint < GRAPH.JOINTS, made)
        arriving = load_rows(arriving_ptr, own)[:, None, :]
        y += tl.reshape(tl.broadcast_to(arriving, (BLOCK, HELD, BLOCK_MADE)), (ROWS, BLOCK_MADE))
    for first in tl.static_range(0, GIVEN, BLOCK_GIVEN):
        given = Channels(first + tl.arange(0, BLOCK_GIVEN), GIVEN)
        x = by_joint(load_rows(x_ptr, Tile(tile.row, tile.live, given)), GRAPH)
        for k in tl.static_range(PARTITIONS):
            a = load_graph(A_ptr, k, GRAPH, TRANSPOSED).to(x.dtype)
            met = tl.zeros((HELD * BLOCK_GIVEN, BLOCK), tl.float32)
            met = tl.trans(matmul(tl.trans(x), a, met, FACTORS))  # of as many rows as all warps take
            number = encoder() * PARTITIONS + k
            w = load_weight(weight_ptr, number, given, made, TRANSPOSED)
            y = add_product(y, by_row(met.to(x.dtype), FACTORS), w, FACTORS)
    if past.grad_ptr is not None:
        y += ahead_of_relu(past, tile)
    store_result(result, tile, y)


@triton.jit
def first_taps(row, live, frames, WINDOW: tl.constexpr):
    """The `Place` of the first tap of each row of what a convolution over time makes of so many frames."""
    joint, frame = row % WINDOW.JOINTS, row // WINDOW.JOINTS
    fewer = (frames - 1) // WINDOW.STRIDE + 1
    time = frame % fewer * WINDOW.STRIDE - (WINDOW.TAPS - 1) // 2
    return Place((frame // fewer * frames + time) * WINDOW.JOINTS + joint, time, live)


@triton.jit
def load_at(x_ptr, step: tl.constexpr, place, frames, given, WINDOW: tl.constexpr):
    """Rows of x a few frames from a place. The step moves the pointer: compiled, it is part of the loads."""
    time = place.time + step
    live = place.live & (time >= 0) & (time < frames)
    return load_rows(x_ptr + step * WINDOW.JOINTS * given.CHANNELS, Tile(place.row, live, given))


@triton.jit
def over_taps(
    x_ptr, weight_ptr, frames, place, tap, made,
    WINDOW: tl.constexpr, TRANSPOSED: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """Σ over taps, from `tap` on, of x, clips of `frames`, from a place on, · W_tap.

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
            there = Place(place.row, tl.where(at < TAPS, place.time, -1), place.live)
        else:
            at = tap + step
            there = place
        number = encoder() * TAPS + tl.minimum(at, TAPS - 1)
        for first in tl.static_range(0, GIVEN, BLOCK_GIVEN):
            given = Channels(first + tl.arange(0, BLOCK_GIVEN), GIVEN)
            x = load_at(x_ptr, -step if TRANSPOSED else step, there, frames, given, WINDOW)
            w = load_weight(weight_ptr, number, given, made, TRANSPOSED)
            y = add_product(y, x, w, FACTORS)
    return y


@triton.jit
def temporal_kernel(x_ptr, convolution, result, rows, frames, WINDOW: tl.constexpr, FACTORS: tl.constexpr):
    """y (clips, ⌈frames/STRIDE⌉, JOINTS, MADE): x (clips, frames, JOINTS, GIVEN), convolved over time.

    Grid: (row tiles, tiles of made channels, encoders).
    """
    tile = tile_of_program(rows, FACTORS.MADE, FACTORS.ROWS, FACTORS.BLOCK_MADE)
    place = first_taps(tile.row, tile.live, frames, WINDOW)
    y = over_taps(x_ptr, convolution.weight_ptr, frames, place, 0, tile.channels, WINDOW, False, FACTORS)
    store_result(result, tile, y + load_channels(convolution.bias_ptr, encoder(), tile.channels))


@triton.jit
def temporal_backward_kernel(
    grad_ptr, y, weight_ptr, grad_x_ptr, sums_ptr, rows, frames, WINDOW: tl.constexpr, FACTORS: tl.constexpr
):
    """The gradient in what `temporal_kernel` took, MADE channels wide, from that in what it made.

    Grid: (row tiles, STRIDE phases · tiles of made channels, encoders): frames of the same phase,
    frame % STRIDE, meet the same taps; `rows` are those of one phase. y: None, or what was `Normalized` and
    had a ReLU ahead of the convolution: the gradient is 0 where that is not above 0, and the tile's sums are
    left: of it, and of it times the standardized y.
    """
    STRIDE: tl.constexpr = WINDOW.STRIDE
    JOINTS: tl.constexpr = WINDOW.JOINTS
    phase, block = tl.program_id(1) % STRIDE, tl.program_id(1) // STRIDE
    number = tl.program_id(0) * FACTORS.ROWS + tl.arange(0, FACTORS.ROWS)
    joint, frame = (encoder() * rows + number) % JOINTS, (encoder() * rows + number) // JOINTS
    fewer = (frames - 1) // STRIDE + 1  # of a phase, and of the gradient
    clip, time = frame // fewer, frame % fewer * STRIDE + phase
    live = (number < rows) & (time < frames)
    made = Channels(block * FACTORS.BLOCK_MADE + tl.arange(0, FACTORS.BLOCK_MADE), FACTORS.MADE)
    pad: tl.constexpr = (WINDOW.TAPS - 1) // 2
    tap = (phase + pad) % STRIDE
    met = (time + pad - tap) // STRIDE
    place = Place((clip * fewer + met) * JOINTS + joint, met, live)
    grad = over_taps(grad_ptr, weight_ptr, fewer, place, tap, made, WINDOW, True, FACTORS)
    tile = Tile((clip * frames + time) * JOINTS + joint, live, made)
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
