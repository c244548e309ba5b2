"""From features and a probe to results: what is scored, what stands beside it, what is written."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ikem_fast.evaluate.config import LARGE, EncoderEvaluateConfig, EvaluateConfig
from ikem_fast.evaluate.features import FrozenFeatures, frozen_features, raw_features
from ikem_fast.evaluate.probes.base import Examples, Fitted, Probe
from ikem_fast.evaluate.results import SCORES, Baseline, Curves, Results, Scores, SetResult, score
from ikem_fast.runtime.checkpoint import plain


@dataclass(frozen=True)
class Judged:
    """What a probe found in features: results and scores (on the CPU) of each set, and what it learned."""

    sets: dict[str, SetResult]
    scores: dict[str, torch.Tensor]
    fitted: dict[str, Fitted]

    @property
    def top1(self) -> dict[str, float]:
        """Set's name → accuracy in percent."""
        return {name: result.top1 for name, result in self.sets.items()}


def judge(features: FrozenFeatures, probe: Probe) -> Judged:
    """Fit a probe to the training clips and score the test clips."""
    fitted = probe(features.train, features.sets)
    scores = {name: one.scores(features.test.x).float().cpu() for name, one in fitted.items()}
    sets = {
        name: score(
            scores[name],
            features.test.y.cpu(),
            features.dataset.classes,
            curves=Curves(*one.curves) if one.curves else None,
            diverged=one.diverged,
            chosen=one.chosen or None,
        )
        for name, one in fitted.items()
    }
    return Judged(sets, scores, fitted)


def chance(features: FrozenFeatures) -> Baseline:
    """Compute what knowing nothing of a clip gets: a guess, or the commonest class of the training clips."""
    commonest = features.train.y.bincount(minlength=features.train.classes).argmax()
    share = 100 * (features.test.y == commonest).double().mean().item()
    return Baseline(dict.fromkeys(features.sets, max(share, 100 / features.train.classes)))


def baselines(
    config: EncoderEvaluateConfig,
    features: FrozenFeatures,
    make_probe: Callable[[FrozenFeatures], Probe],
    device: torch.device,
    *,
    wanted: bool | None,
    untrained_seeds: int,
) -> dict[str, Baseline]:
    """Judge what results stand beside: chance, the coordinates themselves, encoders with random weights.

    Args:
        config: settings of the encoders.
        features: what is evaluated; the baselines are on the same clips and sets.
        make_probe: makes the probe for features; it is the same for all of them.
        device: where to compute.
        wanted: whether there is more than chance; None for where it costs little.
        untrained_seeds: how many weights are drawn, from the seed of the settings on.
    """
    found = {"chance": chance(features)}
    if not (len(features.train) < LARGE if wanted is None else wanted):
        return found
    dataset, sets = features.dataset, ",".join(features.sets)
    raw = unit_scale(raw_features(dataset, features.modalities, sets, device))
    found["raw"] = Baseline.over([judge(raw, make_probe(raw)).top1])
    del raw
    if not config.untrained:
        runs = []
        for seed in range(config.seed, config.seed + untrained_seeds):
            drawn = frozen_features(config, dataset, device, untrained_seed=seed)
            runs.append(judge(drawn, make_probe(drawn)).top1)
        found["untrained"] = Baseline.over(runs)
    return found


def unit_scale(features: FrozenFeatures) -> FrozenFeatures:
    """Scale each modality's features by one number, to a mean squared norm of 1 over the training clips.

    Coordinates have a unit of length and thousands of dimensions: the published learning rate diverges on
    them as they are. Other probes do not notice.
    """
    norm = features.train.x.float().square().sum(-1).mean(0).sqrt().clamp(min=1e-12)[:, None]

    def scaled(examples: Examples) -> Examples:
        return replace(examples, x=examples.x / norm.to(examples.x.dtype))

    return replace(features, train=scaled(features.train), test=scaled(features.test))


def write(
    title: str,
    protocol: str,
    config: EvaluateConfig,
    features: FrozenFeatures,
    judged: Judged,
    **more: object,
) -> Results:
    """Put the `Results` of an evaluation together and write them, with the scores, to the folder `out`.

    Args:
        title: of the evaluation, for people.
        protocol: its name: files are called after it.
        config: its settings.
        features: that were judged.
        judged: what was found.
        more: what else `Results` have.
    """
    results = Results(
        evaluation=title,
        dataset=features.dataset.name,
        settings=plain(asdict(config)),
        clips={"train": len(features.train), "test": len(features.test)},
        classes=list(features.dataset.classes),
        sets=judged.sets,
        **more,  # type: ignore[arg-type]
    )
    out = Path(config.out)
    results.write(out / f"{protocol}.json")
    Scores(
        features.test.y.cpu().numpy(),
        np.asarray(features.dataset["test"].names),
        {name: scores.numpy() for name, scores in judged.scores.items()},
    ).write(out / SCORES.format(protocol))
    return results
