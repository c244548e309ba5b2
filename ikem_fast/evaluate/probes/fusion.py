"""How a set of several modalities is judged: by its features together, or by the scores of each."""

from collections.abc import Mapping
from typing import Literal

import torch

from ikem_fast.evaluate.probes.base import Examples, Fitted, Head, Probe, Sets

Fusion = Literal["concatenate", "mean", "three-stream", "four-stream"]

# What a modality's scores weigh; modalities that are not named weigh as much as "other".
# three-stream: joint 0.6, motion 0.6, bone 0.4, as CrosSCLR, AimCLR and their relatives add scores.
# four-stream: joint and bone 2, what moves 1, after the 2:2:1:1 of joint, bone and the motion of each.
WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "mean": {"other": 1.0},
    "three-stream": {"joint": 0.6, "motion": 0.6, "other": 0.4},
    "four-stream": {"joint": 2.0, "bone": 2.0, "other": 1.0},
}


def fit_sets(probe: Probe, examples: Examples, sets: Sets, fusion: Fusion) -> dict[str, Fitted]:
    """Fit a probe to each set, joined as `fusion` says.

    With "concatenate" the probe sees a set's features together. Otherwise it is fitted to each modality
    alone, and a set's scores are the weighted mean of its modalities' (`WEIGHTS`).

    Args:
        probe: which.
        examples: training clips.
        sets: names are modalities joined by "+".
        fusion: how.
    """
    if fusion == "concatenate":
        return probe(examples, sets)
    alone = {
        modality: [column]
        for name, columns in sets.items()
        for modality, column in zip(name.split("+"), columns, strict=True)
    }
    fitted = probe(examples, alone)
    return {name: _fused([fitted[part] for part in name.split("+")], name, fusion) for name in sets}


def fusion_weights(modalities: list[str], fusion: str) -> list[float]:
    """Return what each modality's scores weigh under a fusion of scores, with sum 1."""
    weights = [WEIGHTS[fusion].get(modality, WEIGHTS[fusion]["other"]) for modality in modalities]
    return [weight / sum(weights) for weight in weights]


def _fused(parts, name, fusion):
    if len(parts) == 1:
        return parts[0]
    weights = fusion_weights(name.split("+"), fusion)

    def weighted(scores):
        return torch.stack([w * one for w, one in zip(weights, scores, strict=True)]).sum(0)

    diverged = next((part.diverged for part in parts if part.diverged), None)
    left_out = [part.left_out for part in parts]
    return Fitted(
        lambda x: weighted([part.scores(x) for part in parts]),
        _fused_head(parts, weights),
        diverged=diverged,
        left_out=None if any(one is None for one in left_out) else weighted(left_out),
    )


def _fused_head(parts, weights):
    """Linear maps side by side are one, which divides by their number."""
    if any(part.head is None for part in parts):
        return None
    weight = torch.cat([w * part.head.weight * len(parts) for w, part in zip(weights, parts, strict=True)])
    return Head(weight, sum(w * part.head.bias for w, part in zip(weights, parts, strict=True)))
