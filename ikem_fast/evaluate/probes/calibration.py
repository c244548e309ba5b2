"""What a probe's scores are divided by, so that their softmax says how often it is right."""

import torch

RANGE = (1e-3, 1e3)  # of the temperature
HALVINGS = 60


def fit_temperature(scores: torch.Tensor, y: torch.Tensor) -> float:
    """Find the temperature whose softmax gives clips that the probe has not seen the least cross entropy.

    The cross entropy is convex in the inverse of the temperature, so that halving an interval finds the one
    where its derivative is 0, or the end of `RANGE` beyond which it lies.

    Args:
        scores: (N,C) of training clips, each by a fit without the clip's fold.
        y: (N,) classes.

    Example:
        fit_temperature(torch.tensor([[2.0, 0], [2, 0], [2, 0]]), torch.tensor([0, 0, 1]))  # 2 / ln 2 = 2.89

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2.
    """
    scores = scores.double()
    right = scores.gather(1, y[:, None])

    def rises(inverse):
        expected = (torch.softmax(scores * inverse, 1) * scores).sum(1, keepdim=True)
        return (expected - right).mean() > 0

    low, high = (torch.tensor(1 / end, dtype=torch.float64).log() for end in reversed(RANGE))
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(middle.exp()) else (middle, high)
    return float(torch.exp(-(low + high) / 2))
