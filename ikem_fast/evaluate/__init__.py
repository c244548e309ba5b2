"""Evaluation: what features, encoders and coordinates tell of the actions."""

from ikem_fast.evaluate.protocols import PROTOCOLS, Protocol
from ikem_fast.evaluate.protocols.knn import KnnConfig, evaluate_knn
from ikem_fast.evaluate.protocols.linear import LinearConfig, evaluate_linear
from ikem_fast.evaluate.protocols.raw import RawConfig, evaluate_raw
from ikem_fast.evaluate.render.table import result_table
from ikem_fast.evaluate.results import Baseline, Results, SetResult, read_results

__all__ = [
    "PROTOCOLS",
    "Baseline",
    "KnnConfig",
    "LinearConfig",
    "Protocol",
    "RawConfig",
    "Results",
    "SetResult",
    "evaluate_knn",
    "evaluate_linear",
    "evaluate_raw",
    "read_results",
    "result_table",
]
