"""Evaluation: what features, encoders and coordinates tell of the actions."""

from ikem_fast.evaluate.compare import Group, find_groups, paired_test
from ikem_fast.evaluate.protocols import PROTOCOLS, Protocol
from ikem_fast.evaluate.protocols.finetune import FinetuneConfig, evaluate_finetune
from ikem_fast.evaluate.protocols.fuse import FuseConfig, evaluate_fuse
from ikem_fast.evaluate.protocols.knn import KnnConfig, evaluate_knn
from ikem_fast.evaluate.protocols.linear import LinearConfig, evaluate_linear
from ikem_fast.evaluate.protocols.raw import RawConfig, evaluate_raw
from ikem_fast.evaluate.protocols.retrieval import RetrievalConfig, evaluate_retrieval
from ikem_fast.evaluate.protocols.semi import SemiConfig, evaluate_semi
from ikem_fast.evaluate.protocols.transfer import TransferConfig, evaluate_transfer
from ikem_fast.evaluate.render.comparison import comparison_markdown, comparison_rows, comparison_table
from ikem_fast.evaluate.render.html.comparison import comparison_page
from ikem_fast.evaluate.render.table import result_table
from ikem_fast.evaluate.results import Baseline, Results, Scores, SetResult, read_results, read_scores

__all__ = [
    "PROTOCOLS",
    "Baseline",
    "FinetuneConfig",
    "FuseConfig",
    "Group",
    "KnnConfig",
    "LinearConfig",
    "Protocol",
    "RawConfig",
    "Results",
    "RetrievalConfig",
    "Scores",
    "SemiConfig",
    "SetResult",
    "TransferConfig",
    "comparison_markdown",
    "comparison_page",
    "comparison_rows",
    "comparison_table",
    "evaluate_finetune",
    "evaluate_fuse",
    "evaluate_knn",
    "evaluate_linear",
    "evaluate_raw",
    "evaluate_retrieval",
    "evaluate_semi",
    "evaluate_transfer",
    "find_groups",
    "paired_test",
    "read_results",
    "read_scores",
    "result_table",
]
