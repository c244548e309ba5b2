"""Multinomial logistic regression by L-BFGS; its strength by cross-validation."""

import torch
import torch.nn.functional as F

from ikem_fast.evaluate.probes.base import Examples, Fitted, Sets, of_head
from ikem_fast.evaluate.probes.folds import make_folds
from ikem_fast.evaluate.probes.spectrum import Standardized

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)  # of the penalty beside the mean loss; strongest first
ITERATIONS = 100


def fit_logistic(examples: Examples, sets: Sets) -> dict[str, Fitted]:
    """Fit a multinomial logistic regression for each set, on its modalities' features side by side.

    Features are standardized by statistics of the training clips; the loss is the mean cross entropy plus
    strength / 2 times the squared norm of the weights, the bias left out. The strength is the one of
    `STRENGTHS` with the least cross entropy of left-out clips, by fits without each fold (see `make_folds`),
    each strength's from the stronger one's.

    Example:
        fit_logistic(Examples(x, y, classes=10), {"joint": [0]})["joint"].chosen["strength"]
    """
    standardized = Standardized(examples)
    folds = make_folds(examples.y, examples.subjects).to(examples.x.device)
    return {
        name: _fit(standardized.spectrum(columns), columns, folds, examples.y, examples.classes)
        for name, columns in sets.items()
    }


def _fit(spectrum, columns, folds, y, classes):
    z = spectrum.coordinates
    left_out = z.new_zeros(len(STRENGTHS), len(y), classes)
    for fold in range(int(folds.max()) + 1):
        out = folds == fold
        for i, weights in enumerate(_path(z[~out], y[~out], classes, len(STRENGTHS))):
            left_out[i, out] = z[out] @ weights
    losses = [float(F.cross_entropy(scores, y)) for scores in left_out]
    best = losses.index(min(losses))
    *_, weights = _path(z, y, classes, best + 1)
    accuracy = 100 * int((left_out[best].argmax(1) == y).sum()) / len(y)
    chosen = {"strength": STRENGTHS[best], "validation": accuracy}
    return of_head(spectrum.to_head(weights), columns, chosen=chosen, left_out=left_out[best])


def _path(z, y, classes, count):
    """Yield the weights (R,C) of the first `count` strengths, each found from those before it."""
    weights = z.new_zeros(z.shape[1], classes, requires_grad=True)
    for strength in STRENGTHS[:count]:
        optimizer = torch.optim.LBFGS([weights], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

        def loss(strength=strength, optimizer=optimizer):
            optimizer.zero_grad()
            value = F.cross_entropy(z @ weights, y) + strength / 2 * weights[:-1].square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        yield weights.detach().clone()
