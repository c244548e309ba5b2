"""Standardized features in few orthogonal coordinates, in which every ridge and logistic fit is cheap.

A penalized linear map of N clips of D features lies in the span of the clips: rotated into the smaller of
both, the problem has min(N, D) unknowns a class, whatever D is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ikem_fast.evaluate.probes.base import Examples, Head

CONSTANT = 1e-6  # of a modality's largest deviation: what varies less is rounding
STILL = 1e-3  # of a feature's own deviation: the least that it is divided by
NEGLIGIBLE = 1e-11  # of the largest eigenvalue


@dataclass(frozen=True)
class Spectrum:
    """Coordinates of a set's standardized features, divided by √(S·H), and a constant 1 as the last.

    coordinates: (N,R) float64, whose columns are orthogonal. eigenvalues: (R,), their squared lengths.
    to_head: weights of the coordinates (R,C) → the `Head` of the features as they are.
    """

    coordinates: torch.Tensor
    eigenvalues: torch.Tensor
    to_head: Callable[[torch.Tensor], Head]


class Standardized:
    """Features of training clips, standardized by their own statistics; what is constant counts for nothing.

    Products of a modality's clips are computed once, for all the sets that it is in.

    Args:
        examples: the clips.
        deviation: (P,H) what features are divided by; their own standard deviation, if not given.
    """

    def __init__(self, examples: Examples, deviation: torch.Tensor | None = None):
        self.x = examples.x
        self.count, _, self.width = self.x.shape
        mean = [column.double().mean(0) for column in self.x.unbind(1)]
        own = torch.stack([column.double().std(0, correction=0) for column in self.x.unbind(1)])
        self.mean = torch.stack(mean)
        varies = own > CONSTANT * own.amax(1, keepdim=True)
        divisor = own if deviation is None else torch.maximum(deviation.to(own), STILL * own)
        self.scale = torch.where(varies, 1 / divisor, 0)
        self._products: dict[int, torch.Tensor] = {}

    def modality(self, column: int) -> torch.Tensor:
        """(N,H) float64."""
        return (self.x[:, column].double() - self.mean[column]) * self.scale[column]

    def products(self, column: int) -> torch.Tensor:
        """(N,N) float64."""
        if column not in self._products:
            x = self.modality(column)
            self._products[column] = x @ x.mT
        return self._products[column]

    def spectrum(self, columns: list[int]) -> Spectrum:
        """Rotate a set's features into coordinates of the smaller of N and S·H."""
        size = len(columns) * self.width
        if self.count <= size:
            values, vectors, lengths = self._eigen(sum(self.products(column) for column in columns) / size)
            coordinates = vectors * lengths
            back = lambda w: [  # noqa: E731
                self.modality(column).mT @ (vectors @ (w / lengths[:, None])) / size**0.5
                for column in columns
            ]
        else:
            x = torch.cat([self.modality(column) for column in columns], 1)
            values, vectors, _ = self._eigen(x.mT @ x / size)
            coordinates = x @ vectors / size**0.5
            back = lambda w: (vectors @ w).split(self.width)  # noqa: E731
        constant = coordinates.new_ones(self.count, 1)

        def to_head(weights):
            """Undo rotation, scale and mean; `Head` divides by S."""
            parts = [part / size**0.5 for part in back(weights[:-1])]
            scaled = [part * self.scale[c][:, None] for c, part in zip(columns, parts, strict=True)]
            shift = sum(self.mean[c] @ part for c, part in zip(columns, scaled, strict=True))
            weight = torch.cat(scaled) * len(columns)
            return Head(weight.float().cpu(), (weights[-1] - shift).float().cpu())

        values = torch.cat([values, values.new_full((1,), self.count)])
        return Spectrum(torch.cat([coordinates, constant], 1), values, to_head)

    def _eigen(self, symmetric):
        """Eigenvalues that count, their vectors, their roots."""
        values, vectors = torch.linalg.eigh(symmetric)
        counts = values > NEGLIGIBLE * values[-1].clamp(min=1e-300)
        values, vectors = values[counts], vectors[:, counts]
        return values, vectors, values.sqrt()
