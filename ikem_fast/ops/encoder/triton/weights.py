"""The gradients of an encoder's weights: sums over all rows, each program's in a record of its own.

A program takes every so manieth tile of rows. Records are in the layout of the parameters, which are float32,
and whoever launched adds them up in order.
"""

import triton
import triton.language as tl

from ikem_fast.ops._triton import matmul
from ikem_fast.ops.encoder.triton.rows import load_channels, load_rows, load_weight


@triton.jit
def graph_weights_kernel(
    x_ptr,
    grad_ptr,
    A_ptr,
    edges_ptr,
    weight_ptr,
    bias_ptr,
    records_ptr,
    frames,
    joints,
    width,
    PARTITION: tl.constexpr,
    PARTITIONS: tl.constexpr,
    MOST: tl.constexpr,
    COUNT: tl.constexpr,
    GIVEN: tl.constexpr,
    MADE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_GIVEN: tl.constexpr,
    BLOCK_MADE: tl.constexpr,
    BLOCK_SLOTS: tl.constexpr,
    BLOCK_JOINTS: tl.constexpr,
):
    """One PARTITION's gradients of the graph convolution in weights (K,MADE,GIVEN), bias (K,MADE) and edges.

    Grid: (records, tiles of given · tiles of made channels). A record, `width` long, has these one after
    the other, edges (K,MOST,joints) for each pair of tiles. A tile is whole frames, so that a lane has the
    same joint in each. COUNT: the most edges that a joint has.
    """
    TILES_GIVEN: tl.constexpr = (GIVEN + BLOCK_GIVEN - 1) // BLOCK_GIVEN
    pair = tl.program_id(1)
    given = pair % TILES_GIVEN * BLOCK_GIVEN + tl.arange(0, BLOCK_GIVEN)
    made = pair // TILES_GIVEN * BLOCK_MADE + tl.arange(0, BLOCK_MADE)
    lane = tl.arange(0, ROWS)
    joint, held = lane % joints, ROWS // joints
    ends: tl.constexpr = PARTITIONS * MOST
    slot = tl.arange(0, BLOCK_SLOTS)[:, None]
    w = load_weight(weight_ptr, PARTITION, made, given, MADE, GIVEN, True)
    b = tl.where(pair % TILES_GIVEN == 0, load_channels(bias_ptr, PARTITION, made, MADE), 0.0)

    in_weight = tl.zeros((BLOCK_GIVEN, BLOCK_MADE), tl.float32)
    in_bias = tl.zeros((BLOCK_MADE,), tl.float32)
    in_A = tl.zeros((BLOCK_SLOTS, ROWS), tl.float32)
    for tile in tl.range(tl.program_id(0), tl.cdiv(frames, held), tl.num_programs(0)):
        frame = tile * held + lane // joints
        live = (lane < held * joints) & (frame < frames)
        grad = load_rows(grad_ptr, frame * joints + joint, live, made, MADE)
        wide = grad.to(tl.float32)
        arrived = matmul(grad, w, tl.zeros((ROWS, BLOCK_GIVEN), tl.float32), PRECISION, WIDEN)
        of_bias = tl.sum(wide * b, 1)
        gathered = tl.zeros((ROWS, BLOCK_GIVEN), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        for number in tl.static_range(COUNT):
            place = (PARTITION * MOST + number) * joints + joint
            end = tl.load(edges_ptr + place, mask=live, other=-1)
            there = end >= 0
            a = tl.load(A_ptr + tl.load(edges_ptr + ends * joints + place, mask=there, other=0))
            a = tl.where(there, a, 0.0)
            x = load_rows(x_ptr, frame * joints + end, there, given, GIVEN).to(tl.float32)
            met = tl.where(there, tl.sum(x * arrived, 1) + of_bias, 0.0)
            in_A += tl.where(slot == number, met[None, :], 0.0)
            gathered += a[:, None] * x
            total += a
        in_weight = matmul(tl.trans(gathered.to(grad.dtype)), grad, in_weight, PRECISION, WIDEN)
        in_bias += tl.sum(total[:, None] * wide, 0)

    records_ptr += tl.program_id(0).to(tl.int64) * width
    mask = (given < GIVEN)[:, None] & (made < MADE)[None, :]
    tl.store(records_ptr + (PARTITION * MADE + made[None, :]) * GIVEN + given[:, None], in_weight, mask=mask)
    records_ptr += PARTITIONS * MADE * GIVEN
    tl.store(
        records_ptr + PARTITION * MADE + made,
        in_bias,
        mask=tl.where(pair % TILES_GIVEN == 0, made, MADE) < MADE,
    )
    records_ptr += PARTITIONS * MADE + (pair * PARTITIONS + PARTITION) * MOST * joints
    at = tl.arange(0, BLOCK_JOINTS)
    own = (joint[:, None] == at[None, :]) & (lane < held * joints)[:, None]
    for number in tl.static_range(MOST):
        met = tl.sum(tl.where(slot == number, in_A, 0.0), 0)
        summed = tl.sum(tl.where(own, met[:, None], 0.0), 0)
        tl.store(records_ptr + number * joints + at, summed, mask=at < joints)


@triton.jit
def temporal_weights_kernel(
    x_ptr,
    grad_ptr,
    records_ptr,
    rows,
    frames,
    joints,
    STRIDE: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    GIVEN: tl.constexpr,
    MADE: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_GIVEN: tl.constexpr,
    BLOCK_MADE: tl.constexpr,
):
    """The gradient of weights (MADE,GIVEN,TAPS) of the convolution over time, in records of that shape.

    Grid: (records, groups of taps · tiles of given · tiles of made channels). x as `temporal_kernel` took it;
    grad has `rows` rows.
    """
    TILES_GIVEN: tl.constexpr = (GIVEN + BLOCK_GIVEN - 1) // BLOCK_GIVEN
    GROUPS: tl.constexpr = TAPS // GROUP
    first, pair = tl.program_id(1) % GROUPS * GROUP, tl.program_id(1) // GROUPS
    given = pair % TILES_GIVEN * BLOCK_GIVEN + tl.arange(0, BLOCK_GIVEN)
    made = pair // TILES_GIVEN * BLOCK_MADE + tl.arange(0, BLOCK_MADE)
    fewer = (frames - 1) // STRIDE + 1
    sums = ()
    for _ in tl.static_range(GROUP):
        sums = sums + (tl.zeros((BLOCK_GIVEN, BLOCK_MADE), tl.float32),)  # noqa: RUF005
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, ROWS), tl.num_programs(0)):
        row = tile * ROWS + tl.arange(0, ROWS)
        live = row < rows
        grad = load_rows(grad_ptr, row, live, made, MADE)
        joint, clip = row % joints, row // joints // fewer
        time = (row // joints) % fewer * STRIDE - (TAPS - 1) // 2 + first
        more = ()
        for tap in tl.static_range(GROUP):
            t = time + tap
            inside = live & (t >= 0) & (t < frames)
            x = load_rows(x_ptr, (clip * frames + t) * joints + joint, inside, given, GIVEN)
            more = more + (matmul(tl.trans(x), grad, sums[tap], PRECISION, WIDEN),)  # noqa: RUF005
        sums = more
    records_ptr += tl.program_id(0).to(tl.int64) * (MADE * GIVEN * TAPS)
    mask = (given < GIVEN)[:, None] & (made < MADE)[None, :]
    offsets = (made[None, :] * GIVEN + given[:, None]) * TAPS + first
    for tap in tl.static_range(GROUP):
        tl.store(records_ptr + offsets + tap, sums[tap], mask=mask)
