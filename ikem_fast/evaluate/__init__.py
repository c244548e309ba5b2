"""Evaluation of frozen encoders."""

from ikem_fast.evaluate.linear import LinearConfig, evaluate_linear
from ikem_fast.evaluate.report import result_table

__all__ = ["LinearConfig", "evaluate_linear", "result_table"]
