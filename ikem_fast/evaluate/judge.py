"""From features and a probe to results: what is scored, what stands beside it, what is written."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ikem_fast.evaluate.config import LARGE, BaselineConfig, EncoderEvaluateConfig, EvaluateConfig
from ikem_fast.evaluate.features import FrozenFeatures, frozen_features, raw_features
from ikem_fast.evaluate.probes.base import Examples, Fitted, Probe
from ikem_fast.evaluate.render.picture import draw
from ikem_fast.evaluate.results import SCORES, Baseline, Curves, Results, Scores, SetResult, score
from ikem_fast.runtime.checkpoint import load_checkpoint, plain
from ikem_fast.runtime.loggers import Loggers


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
    config: BaselineConfig, features: FrozenFeatures, probe: Probe, device: torch.device
) -> dict[str, Baseline]:
    """Judge what results stand beside: chance, the coordinates themselves, encoders with random weights.

    Args:
        config: settings of the encoders, and of which baselines are wanted.
        features: what is evaluated; the baselines are on the same clips and sets.
        probe: of all of them.
        device: where to compute.
    """
    found = {"chance": chance(features)}
    wanted = len(features.train) < LARGE if config.baselines is None else config.baselines
    if not wanted:
        return found
    dataset, sets = features.dataset, ",".join(features.sets)
    raw = unit_scale(raw_features(dataset, features.modalities, sets, device))
    found["raw"] = Baseline(judge(raw, probe).top1)
    del raw
    if not config.untrained:
        runs = []
        for seed in range(config.seed, config.seed + config.untrained_seeds):
            drawn = frozen_features(config, dataset, device, untrained_seed=seed)
            runs.append(judge(drawn, probe).top1)
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
    *,
    picture: bool = False,
    **more: object,
) -> Results:
    """Put the `Results` of an evaluation together, write them and the scores to `out`, and tell its loggers.

    Args:
        title: of the evaluation, for people.
        protocol: its name: files are called after it.
        config: its settings.
        features: that were judged.
        judged: what was found.
        picture: whether to draw them, too.
        more: what else `Results` have.
    """
    results = Results(
        evaluation=title,
        dataset=features.dataset.name,
        settings=plain(asdict(config)),
        clips={"train": len(features.train), "test": len(features.test)},
        classes=list(features.dataset.classes),
        sets=judged.sets,
        training=_training(config.checkpoint) if isinstance(config, EncoderEvaluateConfig) else None,
        **more,  # type: ignore[arg-type]
    )
    out = Path(config.out)
    results.write(out / f"{protocol}.json")
    Scores(
        features.test.y.cpu().numpy(),
        np.asarray(features.dataset["test"].names),
        {name: scores.numpy() for name, scores in judged.scores.items()},
    ).write(out / SCORES.format(protocol))
    if picture:
        draw(results, out / f"{protocol}.png")
    with Loggers(config.loggers, out, results.settings) as loggers:
        loggers.scalars({f"{protocol}/{name}": one.top1 for name, one in results.sets.items()}, step=0)
        if picture:
            loggers.picture(protocol, out / f"{protocol}.png")
    return results


def _training(checkpoint: Path) -> dict[str, Any]:
    """What the encoders of a checkpoint were trained with."""
    state = load_checkpoint(checkpoint)
    kept = {name: state[name] for name in ("kind", "config", "model_config", "epoch")}
    return plain({**kept, "dataset": state["dataset"].get("name")})
