"""The gradients of an encoder's weights: sums over all rows, each program's in a record of its own.

A program takes every so manieth tile of rows. Records are in the layout of the parameters, which are float32,
and whoever launched adds them up in order.
"""

import triton
import triton.language as tl

from ikem_fast.ops._triton import matmul
from ikem_fast.ops.encoder.triton.products import (
    Place,
    by_joint,
    by_row,
    first_taps,
    load_at,
    load_graph,
    tile_of_frames,
)
from ikem_fast.ops.encoder.triton.rows import (
    Channels,
    Tile,
    encoder,
    load_channels,
    load_rows,
    load_weight,
    within,
)


@triton.jit
def channels_of_pair(pair, FACTORS: tl.constexpr):
    """The `Channels` given and made of a pair of tiles, those of one tile of made channels side by side."""
    TILES: tl.constexpr = (FACTORS.GIVEN + FACTORS.BLOCK_GIVEN - 1) // FACTORS.BLOCK_GIVEN
    given = pair % TILES * FACTORS.BLOCK_GIVEN + tl.arange(0, FACTORS.BLOCK_GIVEN)
    made = pair // TILES * FACTORS.BLOCK_MADE + tl.arange(0, FACTORS.BLOCK_MADE)
    return pair % TILES == 0, Channels(given, FACTORS.GIVEN), Channels(made, FACTORS.MADE)


@triton.jit
def graph_weights_kernel(
    x_ptr, grad_ptr, A_ptr, convolution, records_ptr, frames, width,
    GRAPH: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """The gradients of the graph convolution in weights (K,MADE,GIVEN), bias (K,MADE) and A (K,V,V).

    Grid: (records, tiles of given · tiles of made channels, encoders). A record, `width` long, has these one
    after the other, A for each pair of tiles.
    """
    K: tl.constexpr = GRAPH.PARTITIONS
    BLOCK: tl.constexpr = GRAPH.BLOCK
    ROWS: tl.constexpr = FACTORS.ROWS
    BLOCK_GIVEN: tl.constexpr = FACTORS.BLOCK_GIVEN
    BLOCK_MADE: tl.constexpr = FACTORS.BLOCK_MADE
    HELD: tl.constexpr = ROWS // BLOCK
    first, given, made = channels_of_pair(tl.program_id(1), FACTORS)
    in_weight, in_A = (), ()
    for _k in tl.static_range(K):
        in_weight = in_weight + (tl.zeros((BLOCK_GIVEN, BLOCK_MADE), tl.float32),)  # noqa: RUF005
        in_A = in_A + (tl.zeros((BLOCK, BLOCK), tl.float32),)  # noqa: RUF005
    arrived = tl.zeros((BLOCK, BLOCK_MADE), tl.float32)  # of the gradient at each joint
    for number in tl.range(tl.program_id(0), tl.cdiv(frames, HELD), tl.num_programs(0)):
        tile = tile_of_frames(number, frames, made, GRAPH, FACTORS)
        grad = load_rows(grad_ptr, tile)
        x = by_joint(load_rows(x_ptr, Tile(tile.row, tile.live, given)), GRAPH)
        arrived += tl.sum(tl.reshape(grad, (BLOCK, HELD, BLOCK_MADE)).to(tl.float32), 1)
        more_weight, more_A = (), ()
        for k in tl.static_range(K):
            a = load_graph(A_ptr, k, GRAPH, True).to(x.dtype)
            met = tl.zeros((BLOCK, HELD * BLOCK_GIVEN), tl.float32)
            met = by_row(matmul(a, x, met, FACTORS).to(x.dtype), FACTORS)
            more_weight = more_weight + (matmul(tl.trans(met), grad, in_weight[k], FACTORS),)  # noqa: RUF005
            w = load_weight(convolution.weight_ptr, encoder() * K + k, made, given, True)
            back = tl.zeros((ROWS, BLOCK_GIVEN), tl.float32)
            back = by_joint(matmul(grad, w, back, FACTORS).to(x.dtype), GRAPH)
            more_A = more_A + (matmul(x, tl.trans(back), in_A[k], FACTORS),)  # noqa: RUF005
        in_weight, in_A = more_weight, more_A

    records_ptr += (encoder() * tl.num_programs(0) + tl.program_id(0)).to(tl.int64) * width
    row, column = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    for k in tl.static_range(K):
        offsets = (k * FACTORS.MADE + made.channel[None, :]) * FACTORS.GIVEN + given.channel[:, None]
        tl.store(records_ptr + offsets, in_weight[k], mask=within(given, made))
        bias_ptr = records_ptr + K * FACTORS.MADE * FACTORS.GIVEN
        total = tl.sum(load_graph(A_ptr, k, GRAPH, True), 1)
        in_bias = tl.sum(total[:, None] * arrived, 0)
        mask = tl.where(first, made.channel, FACTORS.MADE) < FACTORS.MADE
        tl.store(bias_ptr + k * FACTORS.MADE + made.channel, in_bias, mask=mask)
        b = tl.where(first, load_channels(convolution.bias_ptr, encoder() * K + k, made), 0.0)
        own_A = in_A[k] + tl.sum(arrived * b, 1)[None, :]
        offsets = ((tl.program_id(1) * K + k) * GRAPH.JOINTS + row) * GRAPH.JOINTS + column
        mask = (row < GRAPH.JOINTS) & (column < GRAPH.JOINTS)
        tl.store(bias_ptr + K * FACTORS.MADE + offsets, own_A, mask=mask)


@triton.jit
def temporal_weights_kernel(
    x_ptr, grad_ptr, records_ptr, rows, frames,
    GROUP: tl.constexpr, WINDOW: tl.constexpr, FACTORS: tl.constexpr,
):  # fmt: skip
    """The gradient of weights (MADE,GIVEN,TAPS) of the convolution over time, in records of that shape.

    Grid: (records, groups of taps · tiles of given · tiles of made channels, encoders). x as
    `temporal_kernel` took it; grad has `rows` rows. Tiles of a record are neighbors, so that what one tile
    loads for its last taps is at hand for the next one's first.
    """
    GROUPS: tl.constexpr = WINDOW.TAPS // GROUP
    first, pair = tl.program_id(1) % GROUPS * GROUP, tl.program_id(1) // GROUPS
    _, given, made = channels_of_pair(pair, FACTORS)
    BLOCK_GIVEN: tl.constexpr = FACTORS.BLOCK_GIVEN
    BLOCK_MADE: tl.constexpr = FACTORS.BLOCK_MADE
    sums = ()
    for _tap in tl.static_range(GROUP):
        sums = sums + (tl.zeros((BLOCK_GIVEN, BLOCK_MADE), tl.float32),)  # noqa: RUF005
    tiles = tl.cdiv(rows, FACTORS.ROWS)
    of_record = tl.cdiv(tiles, tl.num_programs(0))
    start = tl.program_id(0) * of_record
    for tile in tl.range(start, tl.minimum(start + of_record, tiles)):
        number = tile * FACTORS.ROWS + tl.arange(0, FACTORS.ROWS)
        row, live = encoder() * rows + number, number < rows
        grad = load_rows(grad_ptr, Tile(row, live, made))
        begin = first_taps(row, live, frames, WINDOW)
        place = Place(begin.row + first * WINDOW.JOINTS, begin.time + first, live)
        more = ()
        for tap in tl.static_range(GROUP):
            x = load_at(x_ptr, tap, place, frames, given, WINDOW)
            product = matmul(tl.trans(x), grad, sums[tap], FACTORS)
            more = more + (product,)  # noqa: RUF005
        sums = more
    record = encoder() * tl.num_programs(0) + tl.program_id(0)
    records_ptr += record.to(tl.int64) * (FACTORS.MADE * FACTORS.GIVEN * WINDOW.TAPS)
    offsets = (made.channel[None, :] * FACTORS.GIVEN + given.channel[:, None]) * WINDOW.TAPS + first
    for tap in tl.static_range(GROUP):
        tl.store(records_ptr + offsets + tap, sums[tap], mask=within(given, made))
