"""Settings that every evaluation has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ikem_fast.settings import setting


@dataclass(kw_only=True)
class EvaluateConfig:
    """Settings that every evaluation has.

    Args:
        data: Folder of a prepared dataset.
        checkpoint: The checkpoint of a pretraining or distillation, or the folder of its run.
        out: Folder for the results.
        sets: The modalities taken together, joined by "+"; sets separated by commas. Left out, each modality
            alone, joint+motion+bone and all together.
        untrained: Whether to evaluate encoders with random weights instead, for comparison.
        statistics: The statistics of the encoders' normalisations. With estimated they are taken anew from
            the training clips, for trained and untrained encoders alike; running keeps those that training
            left, as published, which are far off after a short training.
        amp: Whether to compute in bfloat16 where that is safe.
        device: Where to compute: cpu, cuda, cuda:1, …; auto takes a GPU where there is one.
        seed: What all that is random is drawn from.
    """

    data: Path
    checkpoint: Path
    out: Path
    sets: str | None = None
    untrained: bool = False
    statistics: Literal["estimated", "running"] = "estimated"
    amp: bool = False
    device: str = "auto"
    seed: int = setting(0, least=0, most=2**63 - 1)
