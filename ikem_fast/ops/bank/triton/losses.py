"""The operators: launch the kernels over groups of clips and chunks of the bank.

Nothing of size clips × keys is held: a workspace for the similarities of one group with one chunk is used
again and again, and what must last (running sums, nearest keys, weighted keys) is small. No program adds to
what another writes in the same launch, so every run gives the same bits.

InfoNCE is the relational loss of one anchor that has mined nothing, and the forward pass leaves its gradient:
in one walk over the bank where float32 holds all terms 2^x as they are, else in a second.
"""

import contextlib
import functools
import math
from collections import namedtuple

import torch
import torch.nn.functional as F
import triton

from ikem_fast.ops.bank.triton import plan as plans
from ikem_fast.ops.bank.triton import tuning
from ikem_fast.ops.bank.triton.pairs import Tables, gradients_kernel, pair_sums_kernel, weights_kernel
from ikem_fast.ops.bank.triton.products import (
    Bank,
    Nearest,
    Sums,
    Workspace,
    similarities_kernel,
    weighted_keys_kernel,
)
from ikem_fast.ops.bank.triton.rows import (
    Given,
    feature_gradients_kernel,
    losses_kernel,
    nearest_kernel,
    unit_rows_kernel,
)

LOG2E = math.log2(math.e)
# Exponents up to here leave room in float32 for the sum of all terms 2^x, without a maximum subtracted.
BOUND = 100
COUNTED = 8192  # keys whose similarities are counted at a time

Chunk = namedtuple("Chunk", "bank first keys")


def attention(x, y, queue, temperature, wide, with_direction):
    """InfoNCE: loss (A,N), direction (A,N,·) or an empty tensor, float32.

    x (P,N,D), or (A,N,P·D) if `wide`; y (P,N,D); queue (P,K,D).
    """

    # Float16 has no room for the terms; and a small temperature leaves none in float32.
    once = with_direction and x.dtype != torch.float16 and LOG2E / temperature <= BOUND

    def compute(tiles, x, y):
        group = _Group(tiles, x, y, queue, temperature, wide)
        loss, partition, scores, output = group.losses(weighted=once)
        if not with_direction:
            return loss, loss.new_empty(0)
        grad = torch.ones_like(loss)
        if once:
            scale = F.pad(torch.exp2(-partition[:, 0]), (0, group.plan.rows - x.shape[1]))
            return loss, group.feature_gradients(grad, partition, scores, output, scale, loss.dtype)
        return loss, group.gradients(grad, partition, scores, loss.dtype)

    results = (1, 1 if with_direction else 0)
    variant, large = (wide, with_direction), wide and once
    return _launch("attention", compute, (x, y), queue, variant, (1, 1), results, large=large)


def relations(x, y, queue, temperature, wide, topk, context):
    """The relational losses (A,N), and what the backward pass needs.

    x (P,N,D), features that are their own anchors, or if `wide` (A,N,P·D) with the keys for anchors;
    y (P,N,D) the keys; queue (P,K,D). Also returned, as `relations_backward` takes them: partition (A,B,N),
    scores (A,B,N,topk), mined (B,N,topk) and nearest (B,N,topk).
    """

    def compute(tiles, x, y):
        group = _Group(tiles, x, y, queue, temperature, wide, topk, context)
        loss, partition, scores, _output = group.losses()
        return loss, partition, scores, group.mined, group.values

    results = (1, 2, 2, 1, 1)
    return _launch("relations", compute, (x, y), queue, (wide, context), dims=(1, 1), results=results)


def relations_backward(grad, x, y, queue, partition, scores, mined, values, temperature, wide, topk, context):
    """The gradient in x, of its shape and dtype. grad (A,N); the rest as `relations` took and returned it."""

    def compute(tiles, x, y, grad, partition, scores, mined, values):
        group = _Group(tiles, x, y, queue, temperature, wide, topk, context)
        group.mined, group.values = mined, values
        return (group.gradients(grad, partition, scores, x.dtype),)

    tensors, dims = (x, y, grad.float(), partition, scores, mined, values), (1, 1, 1, 2, 2, 1, 1)
    return _launch("backward", compute, tensors, queue, (wide, context), dims=dims, results=(1,))[0]


def softmax(x, queue, limits, with_mean):
    """Rows x (P,N,D) as they are: partition (P,N); mean key (P,N,D) and counts above limits (P,N), or empty.

    Counts are of similarities made again.
    """

    def compute(tiles, x):
        plan, clips = plans.plan(x, queue, 0, tiles), x.shape[1]
        unit = x.new_zeros((len(x), plan.rows, 1, plans.block(plan.dim)), dtype=plan.operand)
        unit[:, :clips, 0, : plan.dim] = x.float() * LOG2E
        sums = _sums(plan, plan.key_blocks, len(x))
        for chunk in _chunks(plan, queue):
            _similarities(plan, unit, chunk, _workspace(plan, None), sums=sums)
        most = sums.maximum_ptr.amax(0)
        partition = most + (torch.exp2(sums.maximum_ptr - most) * sums.total_ptr).sum(0).log2()
        mean = _mean_keys(plan, unit, queue, partition) if with_mean else unit.new_empty((len(x), 0, 0))
        return partition[:, :clips] / LOG2E, mean[:, :clips]

    partition, mean = _launch("softmax", compute, (x,), queue, (with_mean,), dims=(1,), results=(1, 1))
    above = x.new_zeros(x.shape[:2] if limits is not None else (0,), dtype=torch.int64)
    for keys in queue.split(COUNTED, 1) if limits is not None else ():
        above += (x.float() @ keys.float().mT > limits.unsqueeze(-1)).sum(-1)
    return partition, mean if with_mean else mean.new_empty(0), above


def nearest(q, queue, topk):
    """values (P,N,topk) float32, indices (P,N,topk) int64, most similar first."""

    def compute(tiles, q):
        plan = plans.plan(q, queue, 0, tiles)
        unit, found = _unit_rows(plan, q, 1.0), _found(plan, len(q), topk)
        for chunk in _chunks(plan, queue):
            _similarities(plan, unit, chunk, _workspace(plan, None), nearest=found)
        return _nearest(plan, found, q.shape[1], 1.0)

    return _launch("nearest", compute, (q,), queue, (topk,), dims=(1,), results=(1, 1))


def _launch(name, compute, tensors, queue, variant, dims, results, large=False):
    """compute(tiles, *tensors), a group of clips at a time, with the tiles for these sizes.

    dims, results: where clips lie in the tensors, features first, and in what comes of them.
    """
    x = tensors[0]
    groups = triton.cdiv(x.shape[1], plans.MAX_GROUP)
    clips = triton.cdiv(x.shape[1], groups)
    choices = plans.candidates(plans.operand_dtype(x), plans.capability(x.device), clips, large)

    def run(tiles):
        pieces = zip(*(t.chunk(groups, d) for t, d in zip(tensors, dims, strict=True)), strict=True)
        parts = [compute(tiles, *(t.contiguous() for t in piece)) for piece in pieces]
        if groups == 1:
            return parts[0]
        return tuple(torch.cat(part, d) for part, d in zip(zip(*parts, strict=True), results, strict=True))

    # Triton launches on the current device: make it the tensors'.
    with torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext():
        return tuning.launch(name, choices, x, queue, run, variant)


class _Group:
    """A group of clips that meets the bank: features x (A,N,·), the keys y that belong to them.

    Without anchors (topk 0) the losses are InfoNCE's. mined, values (B,N,topk): the anchors' nearest keys.
    """

    def __init__(self, tiles, x, y, queue, temperature, wide, topk=0, context=False):
        self.x, self.y, self.queue, self.topk, self.context = x, y, queue, topk, context
        self.symmetric = topk > 0 and not wide
        self.anchors = len(y) if topk > 0 else 1
        self.plan = plan = plans.plan(x, queue, self.anchors if topk > 0 and wide else 0, tiles)
        self.root = math.sqrt(LOG2E / temperature)
        self.scale = self.root / math.sqrt(plan.chunks)
        self.unit = _unit_rows(plan, x, self.scale)
        self.anchor_unit = _unit_rows(plan, y, self.root) if plan.anchors else self.unit
        # A feature that meets one bank meets that of its own number; students of one modality share it.
        if plan.chunks == 1:
            self.queue = queue.expand(len(x), -1, -1)
            self.y = y.expand(len(x), -1, -1).contiguous()
        # A program takes all features where they are one another's anchors, else one.
        together = len(x) if self.symmetric and context else 1
        self.pairs = plan.pairs(together, self.anchors, context, self.symmetric)
        self.row = plan.row(plan.chunks, context, self.symmetric)
        self.mined, self.values = x.new_empty(0, dtype=torch.int64), x.new_empty(0, dtype=torch.float32)

    def losses(self, weighted=False):
        """loss (A,N), partition (A,B,N), scores (A,B,N,topk), and the keys weighted by 2^x if asked for."""
        plan, (A, clips, _), B = self.plan, self.x.shape, self.anchors
        grid, tiles = plan.strips(self.pairs, plans.SUMMING_PROGRAMS)
        strips = grid[1]
        own = _sums(plan, plan.key_blocks, A)
        pairs = _sums(plan, strips, A, B) if self.context else None
        store = "weights" if weighted else "similarities" if self.context else None
        s = _workspace(plan, store, self.root)
        found = _found(plan, B, self.topk) if self.topk else None
        output = _output(plan) if weighted else None
        for chunk in _chunks(plan, self.queue):
            mining = found if self.symmetric else None
            _similarities(plan, self.unit, chunk, s, store, own, mining)
            if plan.anchors:
                _similarities(plan, self.anchor_unit, chunk, _after(s, A), store, nearest=found)
            if self.context:
                pair_sums_kernel[grid](s, pairs, chunk.first, chunk.keys, tiles, PAIRS=self.pairs)
            if weighted:
                _weighted_keys(plan, s, chunk, output)
        if self.topk:
            self.values, self.mined = _nearest(plan, found, clips, self.root)
        new = functools.partial(self.x.new_empty, dtype=torch.float32)
        loss, partition, scores = new((A, clips)), new((A, B, clips)), new((A, B, clips, self.topk))
        losses_kernel[plan.row_grid(clips, A)](
            self._given(), own, pairs, loss, partition, scores, clips, plan.key_blocks, strips,
            ROW=self.row, **plan.row_options,
        )  # fmt: skip
        return loss, partition, scores, output

    def gradients(self, grad, partition, scores, dtype):
        """The gradient in x of losses weighted by grad (A,N), from what `losses` returned."""
        plan, A = self.plan, len(self.x)
        grid, tiles = plan.strips(self.pairs, plans.GRADIENT_PROGRAMS)
        s, output = _workspace(plan, "similarities", self.root), _output(plan)
        weights = s._replace(s_ptr=s.s_ptr.view(plan.operand))  # in the features' place
        levels, pulls = self.x.new_empty((2, A, self.anchors + 1, plan.rows), dtype=torch.float32)
        scales = self.x.new_empty((2, A, plan.rows), dtype=torch.float32)
        tables = Tables(levels, pulls, scales)
        weights_kernel[grid[0], A](
            grad, partition, tables, self.x.shape[1], plan.rows, self.root, PAIRS=self.pairs
        )
        for chunk in _chunks(plan, self.queue):
            _similarities(plan, self.unit, chunk, s, "similarities")
            if plan.anchors and self.context:
                _similarities(plan, self.anchor_unit, chunk, _after(s, A), "similarities")
            gradients_kernel[grid](s, weights.s_ptr, tables, chunk.keys, tiles, PAIRS=self.pairs)
            _weighted_keys(plan, weights, chunk, output)
        return self.feature_gradients(grad, partition, scores, output, scales[1], dtype)

    def feature_gradients(self, grad, partition, scores, output, scale, dtype):
        """The same, from the weighted keys (splits, A, rows, ·), to be multiplied by scale (A, rows)."""
        (A, clips, _), gradient = self.x.shape, torch.empty_like(self.x, dtype=dtype)
        feature_gradients_kernel[self.plan.row_grid(clips, A)](
            self._given(), grad, partition, scores, output, scale, gradient, clips, len(output),
            ROW=self.row, **self.plan.row_options,
        )  # fmt: skip
        return gradient

    def _given(self):
        return Given(
            self.x, self.y, self.queue, *self.queue.stride(), self.mined, self.values, self.anchors,
            self.topk, self.scale, self.root, self.plan.rows,
        )  # fmt: skip


def _mean_keys(plan, unit, queue, partition):
    """Σ 2^(similarity − partition) × key (P, plan.rows, D) float32, in a second walk over the bank."""
    s, output = _workspace(plan, "similarities"), _output(plan)
    weights = s._replace(s_ptr=s.s_ptr.view(plan.operand))
    one = torch.ones_like(partition)
    tables, pairs = Tables(partition, one, one), plan.pairs(1, 0, False, False)
    grid, tiles = plan.strips(pairs, plans.GRADIENT_PROGRAMS)
    for chunk in _chunks(plan, queue):
        _similarities(plan, unit, chunk, s, "similarities")
        gradients_kernel[grid](s, weights.s_ptr, tables, chunk.keys, tiles, PAIRS=pairs)
        _weighted_keys(plan, weights, chunk, output)
    return output.sum(0)[..., : plan.dim]


def _chunks(plan, queue):
    """Yield the bank as kernels read it, a `Chunk` of up to plan.keys keys at a time.

    In place if it lies so; else each chunk is copied, and stays in the second-level cache.
    """
    P, K, D = queue.shape
    width = plans.block(D)
    dense = width == D and queue.stride(2) == 1 and queue.stride(1) == D
    aligned = queue.stride(0) % 16 == 0 and queue.data_ptr() % 16 == 0
    copied = None
    if queue.dtype != plan.operand or not (dense and aligned):
        copied = queue.new_zeros((P, min(plan.keys, K), width), dtype=plan.operand)
    for first in range(0, K, plan.keys):
        chunk = queue[:, first : first + plan.keys]
        if copied is not None:
            copied[:, : chunk.shape[1], :D].copy_(chunk)
            chunk = copied[:, : chunk.shape[1]]
        yield Chunk(Bank(chunk, chunk.stride(0)), first, chunk.shape[1])


def _unit_rows(plan, x, scale):
    """x (A,N,C·D) of length `scale`, as products read it: (A, plan.rows, C, BLOCK_D), padded with zeros."""
    features, clips, width = x.shape
    chunks = width // plan.dim
    unit = x.new_empty((features, plan.rows, chunks, plans.block(plan.dim)), dtype=plan.operand)
    unit_rows_kernel[plan.row_grid(plan.rows, features)](x, unit, clips, scale, ROW=plan.row(chunks))
    return unit


def _similarities(plan, unit, chunk, s, store=None, sums=None, nearest=None):
    features, rows, chunks, width = unit.shape
    factors = plan.factors._replace(CHUNKS=chunks)
    # Past the end too, up to a whole number of any tiles: there zeros are written.
    key_blocks = triton.cdiv(chunk.keys, plans.STEP) * (plans.STEP // plan.tiles.keys)
    similarities_kernel[features * rows // plan.tiles.rows, key_blocks](
        unit, chunk.bank, s, sums, nearest, chunk.first, chunk.keys, chunks * width // factors.PIECE,
        FACTORS=factors, STORE=store, TOPK=nearest.values_ptr.shape[-1] if nearest else 0, **plan.options,
    )  # fmt: skip


def _weighted_keys(plan, weights, chunk, output):
    pieces = triton.cdiv(triton.cdiv(chunk.keys, plan.factors.PIECE), plan.splits)
    weighted_keys_kernel[plan.blocks, plan.splits](
        weights, chunk.bank, output, chunk.first, chunk.keys, pieces, FACTORS=plan.factors, **plan.options
    )


def _workspace(plan, store, root=1.0):
    """Room for what is stored of features and anchors: of 16-bit features in float16, finer than bfloat16."""
    shape = plan.features + plan.anchors, plan.rows, plan.keys
    dtype = torch.float16 if store == "similarities" and plan.operand.itemsize == 2 else plan.operand
    s = torch.empty(shape, dtype=dtype, device=plan.device) if store else None
    return Workspace(s, plan.rows, plan.keys, root)


def _after(s, features):
    """The workspace without the first features."""
    return s._replace(s_ptr=s.s_ptr[features:]) if s.s_ptr is not None else s


def _sums(plan, parts, *shape):
    """Room for the running sums of each part of the keys."""
    return Sums(*torch.empty((2, parts, *shape, plan.rows), dtype=torch.float32, device=plan.device))


def _output(plan):
    shape = plan.splits, plan.features, plan.rows, plan.chunks * plans.block(plan.dim)
    return torch.empty(shape, dtype=torch.float32, device=plan.device)


def _found(plan, features, topk):
    """Room for the running nearest keys of each block of keys."""
    shape = plan.key_blocks, features, plan.rows, triton.next_power_of_2(topk)
    values = torch.empty(shape, dtype=torch.float32, device=plan.device)
    return Nearest(values, torch.empty_like(values, dtype=torch.int32), topk)


def _nearest(plan, found, clips, scale):
    """values (·,N,topk), divided by the features' length `scale`, and indices, from all blocks."""
    blocks, features, _rows, slots = found.values_ptr.shape
    values = found.values_ptr.new_empty((features, clips, found.topk))
    indices = torch.empty_like(values, dtype=torch.int64)
    nearest_kernel[plan.row_grid(clips, features)](
        found, values, indices, clips, plan.rows, blocks, scale,
        TOPK=slots, CANDIDATES=triton.next_power_of_2(blocks * slots), ROWS=plans.ROWS,
        num_warps=1,
    )  # fmt: skip
    return values, indices
