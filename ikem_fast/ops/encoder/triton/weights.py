"""The gradients of an encoder's weights: sums over all rows, each program's in a record of its own.

A program takes every so manieth tile of rows. Records are in the layout of the parameters, which are float32,
and whoever launched adds them up in order.
"""

from collections import namedtuple

import triton
import triton.language as tl

from ikem_fast.ops._triton import matmul
from ikem_fast.ops.encoder.triton.products import edge, first_taps, tile_at
from ikem_fast.ops.encoder.triton.rows import Channels, Tile, load_channels, load_rows, load_weight, within

# Whose gradients a launch sums: the number of a partition; powers of two no less than its degree and joints.
Partition = namedtuple("Partition", "NUMBER BLOCK_EDGES BLOCK_JOINTS")


@triton.jit
def channels_of_pair(pair, FACTORS: tl.constexpr):
    """The `Channels` given and made of a pair of tiles, those of one tile of made channels side by side."""
    TILES: tl.constexpr = (FACTORS.GIVEN + FACTORS.BLOCK_GIVEN - 1) // FACTORS.BLOCK_GIVEN
    given = pair % TILES * FACTORS.BLOCK_GIVEN + tl.arange(0, FACTORS.BLOCK_GIVEN)
    made = pair // TILES * FACTORS.BLOCK_MADE + tl.arange(0, FACTORS.BLOCK_MADE)
    return pair % TILES == 0, Channels(given, FACTORS.GIVEN), Channels(made, FACTORS.MADE)


@triton.jit
def graph_weights_kernel(
    x_ptr, grad_ptr, adjacency, convolution, records_ptr, frames, width,
    PARTITION: tl.constexpr, DEGREES: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """One partition's gradients of the graph convolution in weights (K,MADE,GIVEN), bias (K,MADE) and edges.

    Grid: (records, tiles of given · tiles of made channels). A record, `width` long, has these one after
    the other, edges (K,MOST,joints) for each pair of tiles. A tile is whole frames, so that a lane has the
    same joint in each.
    """
    K: tl.constexpr = PARTITION.NUMBER
    COUNT: tl.constexpr = DEGREES.COUNTS[PARTITION.NUMBER]
    ROWS: tl.constexpr = FACTORS.ROWS
    BLOCK_GIVEN: tl.constexpr = FACTORS.BLOCK_GIVEN
    BLOCK_MADE: tl.constexpr = FACTORS.BLOCK_MADE
    BLOCK_EDGES: tl.constexpr = PARTITION.BLOCK_EDGES
    pair, joints = tl.program_id(1), adjacency.joints
    first, given, made = channels_of_pair(pair, FACTORS)
    lane = tl.arange(0, ROWS)
    joint, held = lane % joints, ROWS // joints
    numbers = tl.arange(0, BLOCK_EDGES)[:, None]
    w = load_weight(convolution.weight_ptr, K, made, given, True)
    b = tl.where(first, load_channels(convolution.bias_ptr, K, made), 0.0)

    in_weight = tl.zeros((BLOCK_GIVEN, BLOCK_MADE), tl.float32)
    in_bias = tl.zeros((BLOCK_MADE,), tl.float32)
    in_A = tl.zeros((BLOCK_EDGES, ROWS), tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(frames, held), tl.num_programs(0)):
        frame = tile * held + lane // joints
        live = (lane < held * joints) & (frame < frames)
        grad = load_rows(grad_ptr, Tile(frame * joints + joint, live, made))
        wide = grad.to(tl.float32)
        arrived = tl.zeros((ROWS, BLOCK_GIVEN), tl.float32)
        arrived = matmul(grad, w, arrived, FACTORS)
        of_bias = tl.sum(wide * b, 1)
        gathered = tl.zeros((ROWS, BLOCK_GIVEN), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        for number in tl.static_range(COUNT):
            end, there, a = edge(adjacency, K, number, joint, live, DEGREES)
            x = load_rows(x_ptr, Tile(frame * joints + end, there, given)).to(tl.float32)
            met = tl.where(there, tl.sum(x * arrived, 1) + of_bias, 0.0)
            in_A += tl.where(numbers == number, met[None, :], 0.0)
            gathered += a[:, None] * x
            total += a
        factor = tl.trans(gathered.to(grad.dtype))
        in_weight = matmul(factor, grad, in_weight, FACTORS)
        in_bias += tl.sum(total[:, None] * wide, 0)

    PARTITIONS: tl.constexpr = len(DEGREES.COUNTS)
    records_ptr += tl.program_id(0).to(tl.int64) * width
    offsets = (K * FACTORS.MADE + made.channel[None, :]) * FACTORS.GIVEN + given.channel[:, None]
    tl.store(records_ptr + offsets, in_weight, mask=within(given, made))
    records_ptr += PARTITIONS * FACTORS.MADE * FACTORS.GIVEN
    mask = tl.where(first, made.channel, FACTORS.MADE) < FACTORS.MADE
    tl.store(records_ptr + K * FACTORS.MADE + made.channel, in_bias, mask=mask)
    records_ptr += PARTITIONS * FACTORS.MADE + (pair * PARTITIONS + K) * DEGREES.MOST * joints
    lanes = tl.where(lane < held * joints, joint, -1)
    store_edges(records_ptr, in_A, lanes, joints, DEGREES.MOST, PARTITION)


@triton.jit
def store_edges(ptr, in_A, joint, joints, MOST: tl.constexpr, PARTITION: tl.constexpr):
    """Store (MOST, joints): the sums of in_A (BLOCK_EDGES, ROWS) over each joint's rows."""
    at = tl.arange(0, PARTITION.BLOCK_JOINTS)
    own = joint[:, None] == at[None, :]
    numbers = tl.arange(0, PARTITION.BLOCK_EDGES)[:, None]
    for number in tl.static_range(MOST):
        met = tl.sum(tl.where(numbers == number, in_A, 0.0), 0)
        summed = tl.sum(tl.where(own, met[:, None], 0.0), 0)
        tl.store(ptr + number * joints + at, summed, mask=at < joints)


@triton.jit
def temporal_weights_kernel(
    x_ptr, grad_ptr, records_ptr, rows, clips,
    GROUP: tl.constexpr, WINDOW: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """The gradient of weights (MADE,GIVEN,TAPS) of the convolution over time, in records of that shape.

    Grid: (records, groups of taps · tiles of given · tiles of made channels). x as `temporal_kernel` took it;
    grad has `rows` rows.
    """
    GROUPS: tl.constexpr = WINDOW.TAPS // GROUP
    first, pair = tl.program_id(1) % GROUPS * GROUP, tl.program_id(1) // GROUPS
    _, given, made = channels_of_pair(pair, FACTORS)
    BLOCK_GIVEN: tl.constexpr = FACTORS.BLOCK_GIVEN
    BLOCK_MADE: tl.constexpr = FACTORS.BLOCK_MADE
    sums = ()
    for _tap in tl.static_range(GROUP):
        sums = sums + (tl.zeros((BLOCK_GIVEN, BLOCK_MADE), tl.float32),)  # noqa: RUF005
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, FACTORS.ROWS), tl.num_programs(0)):
        row = tile * FACTORS.ROWS + tl.arange(0, FACTORS.ROWS)
        live = row < rows
        grad = load_rows(grad_ptr, Tile(row, live, made))
        place = first_taps(row, live, clips, WINDOW)
        time = place.time + first
        more = ()
        for tap in tl.static_range(GROUP):
            x = load_rows(x_ptr, tile_at(time + tap, place, clips, given))
            product = matmul(tl.trans(x), grad, sums[tap], FACTORS)
            more = more + (product,)  # noqa: RUF005
        sums = more
    records_ptr += tl.program_id(0).to(tl.int64) * (FACTORS.MADE * FACTORS.GIVEN * WINDOW.TAPS)
    offsets = (made.channel[None, :] * FACTORS.GIVEN + given.channel[:, None]) * WINDOW.TAPS + first
    for tap in tl.static_range(GROUP):
        tl.store(records_ptr + offsets + tap, sums[tap], mask=within(given, made))
