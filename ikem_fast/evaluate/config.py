"""Settings that evaluations share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ikem_fast.evaluate.probes.fusion import Fusion
from ikem_fast.runtime.loggers import LOGGERS
from ikem_fast.settings import setting

LARGE = 10_000  # training clips from which on the published probe is the default, and baselines are asked for


@dataclass(kw_only=True)
class EvaluateConfig:
    """Settings of every evaluation on a dataset.

    Args:
        data: Folder of a prepared dataset.
        out: Folder for the results.
        sets: The modalities taken together, joined by "+"; sets separated by commas. Left out, each modality
            alone, joint+motion+bone and all together.
        holdout: Training subjects, separated by commas, to score on in place of the test clips, which are
            not looked at then; what learns from labels learns from the other training subjects. For choosing
            settings.
        drop_copies: Whether test clips that are training clips' copies, bit for bit, are left out.
        amp: Whether to compute in bfloat16 where that is safe.
        device: Where to compute: cpu, cuda, cuda:1, …; auto takes a GPU where there is one.
        seed: What all that is random is drawn from.
        loggers: What takes the accuracies and the picture beside the files: tensorboard, wandb and mlflow.
    """

    data: Path
    out: Path
    sets: str | None = None
    holdout: str | None = None
    drop_copies: bool = False
    amp: bool = False
    device: str = "auto"
    seed: int = setting(0, least=0, most=2**63 - 1)
    loggers: tuple[str, ...] = setting((), choices=tuple(LOGGERS), empty=True)


@dataclass(kw_only=True)
class EncoderEvaluateConfig(EvaluateConfig):
    """Settings of every evaluation of encoders.

    Args:
        checkpoint: The checkpoint of a pretraining or distillation, or the folder of its run.
        untrained: Whether to evaluate encoders with random weights instead, for comparison.
        statistics: The statistics of the encoders' normalisations. With estimated they are taken anew from
            the training clips, for trained and untrained encoders alike; running keeps those that training
            left, as published, which are far off after a short training.
        features: What of the encoders is judged: the pooled feature, or the output of the heads that
            pretraining put behind it.
    """

    checkpoint: Path
    untrained: bool = False
    statistics: Literal["estimated", "running"] = "estimated"
    features: Literal["feature", "output"] = "feature"


@dataclass(kw_only=True)
class BaselineConfig(EncoderEvaluateConfig):
    """Settings of an evaluation of encoders, and of what its results stand beside.

    Args:
        baselines: Whether to judge the preprocessed coordinates themselves and the same encoders with random
            weights, too. Left out, where there are fewer than 10,000 training clips.
        untrained_seeds: How many random weights the untrained encoders are drawn with; their mean is shown.
    """

    baselines: bool | None = None
    untrained_seeds: int = setting(3, least=1)


@dataclass(kw_only=True)
class LinearProbeConfig:
    """Settings of linear probes. Source of the defaults of sgd: arXiv 2309.12009, section 4.2.

    Args:
        probe: The classifier: ridge regression or logistic regression on standardised features, with a
            strength chosen by cross-validation over training clips; or sgd, the published training. Left out,
            sgd for 10,000 training clips or more, else ridge.
        fusion: How a set of several modalities is judged: by its features side by side; or by its modalities'
            scores, in the mean or weighted 0.6, 0.6, 0.4 for joint, motion, others (three-stream), or 2 for
            joint and bone, 1 for others (four-stream).
        epochs: How many times sgd goes through the features.
        batch_size: How many clips are in a step of sgd.
        lr: The learning rate of sgd with momentum 0.9. Where training diverges, the results say so: try a
            smaller one.
        lr_milestones: The epochs after which the learning rate of sgd is multiplied by 0.1.
    """

    probe: Literal["ridge", "logistic", "sgd"] | None = None
    fusion: Fusion = "concatenate"
    epochs: int = setting(100, least=1)
    batch_size: int = setting(128, least=1)
    lr: float = setting(3.0, above=0, most=1000)
    lr_milestones: tuple[int, ...] = setting((80,), least=1, rising=True)
