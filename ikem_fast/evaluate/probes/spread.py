"""Few labels spread to clips without: a ridge regression that learns from its own answers, in proportion."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ikem_fast.evaluate.probes.base import Examples, Fitted, Sets, of_head
from ikem_fast.evaluate.probes.spectrum import Standardized

# Chosen on held-out training subjects of UTD-MHAD: docs/decisions.md, "Few labels".
STRENGTH_FEW, STRENGTH_ALL = 0.2, 1.0  # of the ridge, in mean squared lengths of a clip's features
ROUNDS = 3
TEMPERATURE = 0.1
PASSES = 50  # of the balancing


def spread_labels(
    examples: Examples, sets: Sets, labeled: Sequence[int], deviation: torch.Tensor
) -> dict[str, Fitted]:
    """Spread the labels of some clips to all others, by each set's features.

    Features are centered and divided by how far augmentations move them, so that what stays as it is when a
    clip is played faster, turned, or done by a body of other proportions counts most. A ridge regression
    from the clips with labels scores all; scores become probabilities whose sums over clips are in the
    proportion of the labels; the regression is fitted to these, and so on. Clips with labels keep them.

    Args:
        examples: all clips; labels are looked at where they are said to be known, nowhere else.
        sets: name → positions of its modalities.
        labeled: positions of the clips whose labels are known.
        deviation: (P,H) how far augmentations move each feature, see `features.augmented_deviation`.

    Example:
        spread_labels(features.train, {"joint": [0]}, [3, 17, 40], deviation)["joint"].scores(x)

    Source: after Yarowsky, Unsupervised word sense disambiguation rivaling supervised methods (1995), and
    Asano et al., Self-labelling via simultaneous clustering and representation learning (2020).
    """
    standardized = Standardized(examples, deviation)
    where = torch.as_tensor(labeled, device=examples.y.device)
    known = F.one_hot(examples.y[where], examples.classes).double()
    return {name: _spread(standardized, columns, where, known) for name, columns in sets.items()}


def _spread(standardized, columns, where, known):
    spectrum = standardized.spectrum(columns)
    z = spectrum.coordinates[:, :-1]  # without the constant, which is not penalized here
    length = z.square().sum(1).mean()
    weights, constant = _ridge(z[where], 2 * known - 1, STRENGTH_FEW * length)
    for _ in range(ROUNDS):
        targets = in_proportion((z @ weights + constant) / TEMPERATURE, known.mean(0))
        targets[where] = known
        weights, constant = _ridge(z, 2 * targets - 1, STRENGTH_ALL * length)
    head = spectrum.to_head(torch.cat([weights, constant[None]]))
    return of_head(head, columns)


def in_proportion(scores: torch.Tensor, proportion: torch.Tensor) -> torch.Tensor:
    """Turn scores (N,C) into probabilities whose mean over the clips is near a proportion (C,) of classes.

    Example:
        in_proportion(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([0.5, 0.5])).mean(0)  # (0.5, 0.5)
    """
    likely = (scores - scores.amax(1, keepdim=True)).exp()
    for _ in range(PASSES):
        likely = likely * (proportion * len(likely) / likely.sum(0).clamp(min=1e-300))
        likely = likely / likely.sum(1, keepdim=True).clamp(min=1e-300)
    return likely


def _ridge(z, targets, strength):
    """Weights (R,C) of coordinates and a constant (C,), which is not penalized; in the smaller of N and R."""
    constant = targets.mean(0)
    rows = len(z) <= z.shape[1]
    products = z @ z.mT if rows else z.mT @ z
    penalized = products + strength * torch.eye(len(products), dtype=z.dtype, device=z.device)
    if rows:
        return z.mT @ torch.linalg.solve(penalized, targets - constant), constant
    return torch.linalg.solve(penalized, z.mT @ (targets - constant)), constant
