"""These losses over matrices of clips by clips: B² D operations where features by features take B D².

The sum of squares of ZᵀZ is that of ZZᵀ, and of AᵀB it is ⟨AAᵀ, BBᵀ⟩; the diagonal is taken off. Plain torch,
on any device and in any dtype. First derivatives are written by hand: autograd goes over features by clips
three times as often, and wakes every thread each time. Further derivatives are those of `reference`.
"""

import functools

import torch

from ikem_fast.ops._precision import compute_dtype, outside_autocast
from ikem_fast.ops._support import Support, support_under_transforms
from ikem_fast.ops.statistics import reference


def support_for(z):
    """The `Support` for features (P,B,D): it pays where clips are fewer than features."""
    _, clips, features = z.shape
    if clips < features:
        return support_under_transforms()
    return Support(f"{clips} clips of {features} features: it takes fewer clips than features")


def variance_covariance(z, target, epsilon):
    """As in `reference`."""
    return reference.of_covariance(*_Covariance.apply(z), target, epsilon)


def cross_correlation(a, b, weight, epsilon, correction):
    """As in `reference`."""
    return reference.of_correlation(*_Correlation.apply(a, b, epsilon, correction), weight)


def further_derivatives_of(op):
    """Decorate a `backward` whose gradients, where they shall have derivatives, are those of `op`.

    The first of the saved tensors are the inputs, `ctx.inputs` in number; `ctx.options` follow them.
    """

    def decorate(backward):
        @functools.wraps(backward)
        def wrapper(ctx, *incoming):
            if not torch.is_grad_enabled() or torch.compiler.is_compiling():
                return backward(ctx, *incoming)
            inputs = ctx.saved_tensors[: ctx.inputs]
            outputs = op(*inputs, *ctx.options)
            learned = [x for x in inputs if x.requires_grad]
            found = iter(torch.autograd.grad(outputs, learned, incoming, create_graph=True))
            gradients = [next(found) if x.requires_grad else None for x in inputs]
            return *gradients, *[None] * len(ctx.options)

        return wrapper

    return decorate


class _Covariance(torch.autograd.Function):
    """`reference.covariance`: with Z centered and G = ZZᵀ/(B−1), ‖G‖² − Σ C_dd²."""

    @staticmethod
    def forward(ctx, z):
        centered, gram, diagonal, squares = _covariance(z)
        ctx.inputs, ctx.options = 1, ()
        ctx.save_for_backward(z, centered, gram, diagonal)
        return diagonal, squares

    @staticmethod
    @further_derivatives_of(reference.covariance)
    def backward(ctx, to_diagonal, to_squares):
        z, centered, gram, diagonal = ctx.saved_tensors
        return _covariance_gradient(centered, gram, diagonal, to_diagonal, to_squares).to(z.dtype)


@outside_autocast
def _covariance(z):
    centered = reference.centered(z.to(compute_dtype(z)))
    gram = (centered @ centered.mT) / (z.shape[1] - 1)
    diagonal = centered.square().sum(1) / (z.shape[1] - 1)
    return centered, gram, diagonal, gram.square().sum((1, 2)) - diagonal.square().sum(1)


@outside_autocast
def _covariance_gradient(centered, gram, diagonal, to_diagonal, to_squares):
    """4 G Z − 4 Z C_dd, and 2 Z of the diagonal, over B−1; no mean over the batch is in any of them."""
    to_squares = to_squares.unsqueeze(1)
    of_feature = (2 * to_diagonal - 4 * to_squares * diagonal) / (centered.shape[1] - 1)
    of_clip = gram * (4 * to_squares / (centered.shape[1] - 1)).unsqueeze(2)
    return (centered * of_feature.unsqueeze(1)).baddbmm_(of_clip, centered)


class _Correlation(torch.autograd.Function):
    """`reference.correlation`: with A, B standardized, ⟨AAᵀ, BBᵀ⟩/B² − Σ C_ii². Both lie in one tensor."""

    @staticmethod
    def forward(ctx, a, b, epsilon, correction):
        views, scale, grams, diagonal, squares = _correlation(a, b, epsilon, correction)
        ctx.inputs, ctx.options = 2, (epsilon, correction)
        ctx.save_for_backward(a, b, views, scale, grams, diagonal)
        return diagonal, squares

    @staticmethod
    @further_derivatives_of(reference.correlation)
    def backward(ctx, to_diagonal, to_squares):
        a, b, *saved = ctx.saved_tensors
        correction = ctx.options[1]
        to_a, to_b = _correlation_gradient(*saved, correction, to_diagonal, to_squares).chunk(2)
        return to_a.to(a.dtype), to_b.to(b.dtype), None, None


@outside_autocast
def _correlation(a, b, epsilon, correction):
    views, scale = torch.cat([a, b]).to(compute_dtype(a, b)), None  # (2P,B,D)
    if epsilon is not None:
        views -= views.mean(1, keepdim=True)
        scale = reference.scale_of(views, epsilon, correction)
        views *= scale
    grams = (views @ views.mT) / a.shape[1]
    a, b = views.chunk(2)
    diagonal = (a * b).mean(1)
    squares = torch.mul(*grams.chunk(2)).sum((1, 2)) - diagonal.square().sum(1)
    return views, scale, grams, diagonal, squares


@outside_autocast
def _correlation_gradient(views, scale, grams, diagonal, correction, to_diagonal, to_squares):
    """2 BBᵀA − 2 B C_ii, and B of the diagonal, over the batch's size, through the standardization."""
    B, (a, b) = views.shape[1], views.chunk(2)
    to_squares = to_squares.unsqueeze(1)
    other = torch.cat(grams.chunk(2)[::-1]) * (2 / B * to_squares).repeat(2, 1).unsqueeze(2)
    gradient = other @ views
    of_feature = ((to_diagonal - 2 * to_squares * diagonal) / B).unsqueeze(1)
    for part, partner in zip(gradient.chunk(2), (b, a), strict=True):
        part.addcmul_(partner, of_feature)
    if scale is None:
        return gradient
    along = (gradient * views).sum(1, keepdim=True) / (B - correction)
    return gradient.addcmul_(views, along, value=-1).mul_(scale)
