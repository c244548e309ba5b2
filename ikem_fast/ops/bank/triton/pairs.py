"""Similarities two at a time: sums over their products, and the gradients of the losses in them.

Of feature a guided by anchor b, with s_a the similarities of a to the bank and c_ab = s_a ⊙ s_b:

    ℓ_ab = log(e^pos_a + Σ e^{s_a/τ} + Σ e^{c_ab/τ}) − [pos_a + Σ_{top_b}(s_a + c_ab)/τ] / positives

and with h_a = grad_a / (number of anchors), Z_ab the logarithm of the sum (the partition):

    ∂L/∂s_a = (1/τ) Σ_b [ h_a e^{s_a/τ − Z_ab} + (h_a e^{−Z_ab} + h_b e^{−Z_ba}) e^{c_ab/τ} s_b ]

the term in h_b only where features are their own anchors (SYMMETRIC): there c_ab = c_ba, and each pair a < b
is computed once. Kernels work on tiles of similarities (features, rows, width) in registers, a row a warp.
Base 2: with r = s·√(log₂e/τ), as stored, the exponent of s is r·root, of c it is r_a·r_b, root = √(log₂e/τ).
"""

# ruff: noqa: RUF005 (Triton tuples grow by +, it has no unpacking)

from collections import namedtuple

import triton
import triton.language as tl

from ikem_fast.ops.bank.triton.products import LOWEST, add_to_sums

# Gradients of single similarities are tiny next to the largest; this keeps them in the range of float16.
HEADROOM = tl.constexpr(4096.0)

# What is compiled for: features of a program; VECTOR numbers of a row that a thread holds side by side.
Pairs = namedtuple("Pairs", "FEATURES ANCHORS CONTEXT SYMMETRIC VECTOR ROWS KEYS")
# What exponentials become, 2^(exponent − level)·weight: level, weight (A, B + 1, rows) of the pairs with each
# anchor, then the feature's own; scale (2, A, rows) of gradients into the range of their dtype, and back.
Tables = namedtuple("Tables", "level_ptr weight_ptr scale_ptr")


@triton.jit
def load_tiles(s_ptr, offsets, feature_stride, COUNT: tl.constexpr):
    """The same tile of COUNT features, float32; unmasked, since keys past the end are written as zeros."""
    tiles = ()
    for f in tl.static_range(COUNT):
        tiles = tiles + (tl.load(s_ptr + f * feature_stride + offsets).to(tl.float32),)
    return tiles


@triton.jit(do_not_specialize=["first", "keys", "tiles"])
def pair_sums_kernel(s, sums, first, keys, tiles, PAIRS: tl.constexpr):
    """Running log₂ Σ 2^(r_a·r_b) over a strip, `tiles` tiles of a chunk that begins at key `first`.

    Grid: (row blocks, strips, groups of FEATURES features). s: the anchors' after the features', unless they
    are the same; sums (strips, features, ANCHORS, rows). A thread sums up its VECTOR numbers by itself.
    """
    FEATURES: tl.constexpr = PAIRS.FEATURES
    ANCHORS: tl.constexpr = PAIRS.ANCHORS
    SYMMETRIC: tl.constexpr = PAIRS.SYMMETRIC
    ROWS: tl.constexpr = PAIRS.ROWS
    KEYS: tl.constexpr = PAIRS.KEYS
    strip, feature = tl.program_id(1), tl.program_id(2) * FEATURES
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, KEYS)[None, :]
    feature_stride = s.rows * s.width
    features_ptr = s.s_ptr + feature * feature_stride
    anchors_ptr = s.s_ptr + tl.num_programs(2) * FEATURES * feature_stride
    VECTOR: tl.constexpr = PAIRS.VECTOR
    LANES: tl.constexpr = KEYS // VECTOR
    maxima = ()
    totals = ()
    for _pair in tl.static_range(FEATURES * ANCHORS):
        maxima = maxima + (tl.full((ROWS, LANES), LOWEST, tl.float32),)
        totals = totals + (tl.zeros((ROWS, LANES), tl.float32),)
    for tile in tl.range(strip * tiles, tl.minimum((strip + 1) * tiles, tl.cdiv(keys, KEYS))):
        key = tile * KEYS
        beyond = tl.where(key + column < keys, 0.0, LOWEST)
        offsets = row[:, None] * s.width + key + column
        left = load_tiles(features_ptr, offsets, feature_stride, FEATURES)
        right = left if SYMMETRIC else load_tiles(anchors_ptr, offsets, feature_stride, ANCHORS)
        new_maxima = ()
        new_totals = ()
        for a in tl.static_range(FEATURES):
            for b in tl.static_range(ANCHORS):
                raised = maxima[a * ANCHORS + b]
                total = totals[a * ANCHORS + b]
                if not SYMMETRIC or b > a:
                    exponents = tl.reshape(left[a] * right[b] + beyond, (ROWS, LANES, VECTOR))
                    raised = tl.maximum(raised, tl.max(exponents, 2))
                    total *= tl.exp2(maxima[a * ANCHORS + b] - raised)
                    total += tl.sum(tl.exp2(exponents - raised[:, :, None]), 2)
                new_maxima = new_maxima + (raised,)
                new_totals = new_totals + (total,)
        maxima = new_maxima
        totals = new_totals
    for a in tl.static_range(FEATURES):
        for b in tl.static_range(ANCHORS):
            if not SYMMETRIC or b > a:
                maximum = tl.max(maxima[a * ANCHORS + b], 1)
                total = totals[a * ANCHORS + b] * tl.exp2(maxima[a * ANCHORS + b] - maximum[:, None])
                part = (strip * tl.num_programs(2) * FEATURES + feature + a) * ANCHORS + b
                add_to_sums(sums, part * s.rows + row, first, maximum, tl.sum(total, 1))


@triton.jit(do_not_specialize=["clips"])
def weights_kernel(grad_ptr, partition_ptr, tables, clips, rows, root, PAIRS: tl.constexpr):
    """Fill the tables, once for a row, for `gradients_kernel`.

    Grid: (row blocks, features). grad (A, clips), partition (A, B, clips), base 2. Every exponential is taken
    relative to a partition that contains it, and so is at most 1.
    """
    ANCHORS: tl.constexpr = PAIRS.ANCHORS
    SYMMETRIC: tl.constexpr = PAIRS.SYMMETRIC
    TERMS: tl.constexpr = ANCHORS - 1 if SYMMETRIC else ANCHORS
    feature, features = tl.program_id(1), tl.num_programs(1)
    row = tl.program_id(0) * PAIRS.ROWS + tl.arange(0, PAIRS.ROWS)
    inside = row < clips
    grad = tl.load(grad_ptr + feature * clips + row, mask=inside, other=0.0) / TERMS
    own_level = tl.zeros_like(grad) + float("inf")
    for term in range(TERMS):
        b = (feature + 1 + term) % ANCHORS if SYMMETRIC else term
        partition = tl.load(partition_ptr + (feature * ANCHORS + b) * clips + row, mask=inside, other=0.0)
        own_level = tl.minimum(own_level, partition)
    own_weight = tl.zeros_like(grad)
    largest = tl.zeros_like(grad)
    for term in range(TERMS):
        b = (feature + 1 + term) % ANCHORS if SYMMETRIC else term
        partition = tl.load(partition_ptr + (feature * ANCHORS + b) * clips + row, mask=inside, other=0.0)
        own_weight += grad * tl.exp2(own_level - partition)
        if PAIRS.CONTEXT:
            level = partition
            weight = grad
            if SYMMETRIC:
                at = (b * ANCHORS + feature) * clips + row
                mirrored = tl.load(partition_ptr + at, mask=inside, other=0.0)
                level = tl.minimum(partition, mirrored)
                grad_b = tl.load(grad_ptr + b * clips + row, mask=inside, other=0.0) / TERMS
                weight = grad * tl.exp2(level - partition) + grad_b * tl.exp2(level - mirrored)
            at = (feature * (ANCHORS + 1) + b) * rows + row
            tl.store(tables.level_ptr + at, level)
            tl.store(tables.weight_ptr + at, weight / root)
            largest = tl.maximum(largest, tl.abs(weight))
    largest = tl.maximum(largest, tl.abs(own_weight))
    at = (feature * (ANCHORS + 1) + ANCHORS) * rows + row
    tl.store(tables.level_ptr + at, own_level)
    tl.store(tables.weight_ptr + at, own_weight)
    at = feature * rows + row
    tl.store(tables.scale_ptr + at, 1.0 / tl.where(largest > 0.0, largest, float("inf")) * HEADROOM)
    tl.store(tables.scale_ptr + features * rows + at, largest / HEADROOM)


@triton.jit
def load_columns(ptr, feature, rows, row, COUNT: tl.constexpr):
    """Columns (ROWS, 1) of a table (A, COUNT, rows): those of a feature."""
    columns = ()
    for i in tl.static_range(COUNT):
        columns = columns + (tl.load(ptr + (feature * COUNT + i) * rows + row)[:, None],)
    return columns


@triton.jit(do_not_specialize=["keys", "tiles"])
def gradients_kernel(s, gradients_ptr, tables, keys, tiles, PAIRS: tl.constexpr):
    """τ·∂L/∂s, scaled into the range of its dtype, in the place of the similarities; 0 past the end.

    Grid, s: as `pair_sums_kernel` has them.
    """
    FEATURES: tl.constexpr = PAIRS.FEATURES
    ANCHORS: tl.constexpr = PAIRS.ANCHORS
    SYMMETRIC: tl.constexpr = PAIRS.SYMMETRIC
    KEYS: tl.constexpr = PAIRS.KEYS
    feature = tl.program_id(2) * FEATURES
    row = tl.program_id(0) * PAIRS.ROWS + tl.arange(0, PAIRS.ROWS)
    column = tl.arange(0, KEYS)[None, :]
    feature_stride = s.rows * s.width
    features_ptr = s.s_ptr + feature * feature_stride
    anchors_ptr = s.s_ptr + tl.num_programs(2) * FEATURES * feature_stride
    gradients_ptr += feature * feature_stride
    levels = ()
    weights = ()
    scales = ()
    for a in tl.static_range(FEATURES):
        levels = levels + load_columns(tables.level_ptr, feature + a, s.rows, row, ANCHORS + 1)
        weights = weights + load_columns(tables.weight_ptr, feature + a, s.rows, row, ANCHORS + 1)
        scales = scales + load_columns(tables.scale_ptr, feature + a, s.rows, row, 1)
    strip = tl.program_id(1)
    for tile in tl.range(strip * tiles, tl.minimum((strip + 1) * tiles, tl.cdiv(keys, KEYS))):
        key = tile * KEYS
        inside = key + column < keys
        offsets = row[:, None] * s.width + key + column
        left = load_tiles(features_ptr, offsets, feature_stride, FEATURES)
        right = left
        if PAIRS.CONTEXT and not SYMMETRIC:
            right = load_tiles(anchors_ptr, offsets, feature_stride, ANCHORS)
        gradients = ()
        for a in tl.static_range(FEATURES):
            exponents = left[a] * s.root - levels[a * (ANCHORS + 1) + ANCHORS]
            gradients = gradients + (tl.exp2(exponents) * weights[a * (ANCHORS + 1) + ANCHORS],)
        if PAIRS.CONTEXT:
            for a in tl.static_range(FEATURES):
                for b in tl.static_range(ANCHORS):
                    if not SYMMETRIC or b > a:
                        exponents = left[a] * right[b] - levels[a * (ANCHORS + 1) + b]
                        shared = tl.exp2(exponents) * weights[a * (ANCHORS + 1) + b]
                        updated = ()
                        for f in tl.static_range(FEATURES):
                            gradient = gradients[f]
                            if f == a:
                                gradient += shared * right[b]
                            if SYMMETRIC and f == b:
                                gradient += shared * left[a]
                            updated = updated + (gradient,)
                        gradients = updated
        for a in tl.static_range(FEATURES):
            gradient = tl.where(inside, gradients[a] * scales[a], 0.0)
            gradient = gradient.to(gradients_ptr.dtype.element_ty)
            tl.store(gradients_ptr + a * feature_stride + offsets, gradient)
