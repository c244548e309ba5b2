"""Evaluation of frozen encoders."""

from ikem_fast.evaluate.knn import KnnConfig, evaluate_knn
from ikem_fast.evaluate.linear import LinearConfig, evaluate_linear
from ikem_fast.evaluate.report import result_table

__all__ = ["KnnConfig", "LinearConfig", "evaluate_knn", "evaluate_linear", "result_table"]
