"""The evaluations that there are. A new one is a file here and a line in `PROTOCOLS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ikem_fast.evaluate.config import EvaluateConfig
from ikem_fast.evaluate.protocols import knn, linear, raw
from ikem_fast.evaluate.results import Results


@dataclass(frozen=True)
class Protocol:
    """An evaluation; the command line has a command of its name.

    name: of the command, and of its section in a configuration file.
    summary: what it does, a sentence.
    example: of the command.
    settings: the dataclass of its settings.
    run: settings → results, written to the folder `out` of the settings.
    files: names of what it leaves there.
    """

    name: str
    summary: str
    example: str
    settings: type[EvaluateConfig]
    run: Callable[[Any], Results]
    files: tuple[str, ...]


_ALL = (
    Protocol(
        name="linear",
        summary="Fit linear classifiers to frozen features, beside raw and untrained: accuracy, picture.",
        example="ikem-fast evaluate linear --data data/ntu60 --checkpoint runs/teacher --out runs/linear",
        settings=linear.LinearConfig,
        run=linear.evaluate_linear,
        files=("linear.json", "linear_scores.npz", linear.HEADS, linear.PICTURE),
    ),
    Protocol(
        name="knn",
        summary="Let the nearest training clips vote, by frozen features: accuracy, confusion.",
        example="ikem-fast evaluate knn --data data/ntu60 --checkpoint runs/teacher --out runs/teacher/knn",
        settings=knn.KnnConfig,
        run=knn.evaluate_knn,
        files=("knn.json", "knn_scores.npz"),
    ),
    Protocol(
        name="raw",
        summary="Judge the coordinates themselves by the same probes, without an encoder.",
        example="ikem-fast evaluate raw --data data/utd_mhad --out runs/raw",
        settings=raw.RawConfig,
        run=raw.evaluate_raw,
        files=("raw.json", "raw_scores.npz"),
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
