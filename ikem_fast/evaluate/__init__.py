"""Evaluation of frozen encoders."""

from ikem_fast.evaluate.protocols import PROTOCOLS, Protocol
from ikem_fast.evaluate.protocols.knn import KnnConfig, evaluate_knn
from ikem_fast.evaluate.protocols.linear import LinearConfig, evaluate_linear
from ikem_fast.evaluate.render.table import result_table
from ikem_fast.evaluate.results import Results, SetResult, read_results

__all__ = [
    "PROTOCOLS",
    "KnnConfig",
    "LinearConfig",
    "Protocol",
    "Results",
    "SetResult",
    "evaluate_knn",
    "evaluate_linear",
    "read_results",
    "result_table",
]
