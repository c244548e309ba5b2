"""Ridge regression of ±1 targets, one against all, in closed form; its strength by cross-validation."""

import math

import torch

from ikem_fast.evaluate.probes.base import Examples, Fitted, Sets, of_head
from ikem_fast.evaluate.probes.folds import make_folds
from ikem_fast.evaluate.probes.spectrum import Standardized

STRENGTHS = tuple(10 ** (half / 2) for half in range(-10, 5))  # 1e-5 … 1e2, where features have unit length


def fit_ridge(examples: Examples, sets: Sets) -> dict[str, Fitted]:
    """Fit a ridge regression for each set, on its modalities' features side by side.

    Features are standardized by statistics of the training clips; a constant is one more of them. The
    strength is the one of `STRENGTHS` with the least squared error on left-out clips when folds of training
    clips are left out in turn (see `make_folds`); how many of them are right says less, for few clips are few
    steps of it. What the regression without a fold says of it follows from one decomposition, exactly: the
    residuals r of all clips give (I − H_FF)⁻¹ r_F, H being the map from targets to fitted values.

    Example:
        fit_ridge(Examples(x, y, classes=10), {"joint": [0]})["joint"].chosen["strength"]
    """
    standardized = Standardized(examples)
    folds = make_folds(examples.y, examples.subjects).to(examples.x.device)
    targets = 2 * torch.nn.functional.one_hot(examples.y, examples.classes).double() - 1
    return {name: _fit(standardized, columns, folds, examples.y, targets) for name, columns in sets.items()}


def _fit(standardized, columns, folds, y, targets):
    spectrum = standardized.spectrum(columns)
    z, values = spectrum.coordinates, spectrum.eigenvalues
    projected = z.mT @ targets
    parts = [torch.nonzero(folds == fold).flatten() for fold in range(int(folds.max()) + 1)]
    least, chosen, left_out = math.inf, STRENGTHS[-1], targets
    for strength in STRENGTHS:
        penalized = values + strength
        residuals = targets - z @ (projected / penalized[:, None])
        scores = torch.empty_like(targets)
        for part in parts:
            scores[part] = targets[part] - _left_out(z[part], penalized, residuals[part])
        error = float((scores - targets).square().mean())
        if error <= least:
            least, chosen, left_out = error, strength, scores
    head = spectrum.to_head(projected / (values + chosen)[:, None])
    accuracy = 100 * int((left_out.argmax(1) == y).sum()) / len(y)
    return of_head(head, columns, chosen={"strength": chosen, "validation": accuracy}, left_out=left_out)


def _left_out(z, penalized, residuals):
    """Residuals of the clips of a fold under the regression without them; H_FF = z diag(1 / penalized) zᵀ.

    Solved in whichever is smaller: as many unknowns as the fold has clips, or as there are coordinates.
    """
    if len(z) <= len(penalized):
        identity = torch.eye(len(z), dtype=z.dtype, device=z.device)
        return torch.linalg.solve(identity - (z / penalized) @ z.mT, residuals)
    inner = torch.diag(penalized) - z.mT @ z
    return residuals + z @ torch.linalg.solve(inner, z.mT @ residuals)
