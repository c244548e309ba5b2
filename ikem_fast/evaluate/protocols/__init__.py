"""The evaluations that there are. A new one is a file here and a line in `PROTOCOLS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ikem_fast.evaluate.config import EvaluateConfig
from ikem_fast.evaluate.protocols import knn, linear
from ikem_fast.evaluate.results import Results


@dataclass(frozen=True)
class Protocol:
    """An evaluation of frozen encoders; the command line has a command of its name.

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
        summary="Train a linear classifier on frozen features: accuracy, confusion, picture.",
        example="ikem-fast evaluate linear --data data/ntu60 --checkpoint runs/teacher --out runs/linear",
        settings=linear.LinearConfig,
        run=linear.evaluate_linear,
        files=(linear.RESULTS, linear.HEADS, linear.PICTURE),
    ),
    Protocol(
        name="knn",
        summary="Let the nearest training clips vote, by frozen features: accuracy, confusion.",
        example="ikem-fast evaluate knn --data data/ntu60 --checkpoint runs/teacher --out runs/teacher/knn",
        settings=knn.KnnConfig,
        run=knn.evaluate_knn,
        files=(knn.RESULTS,),
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
