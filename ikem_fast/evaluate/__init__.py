"""Evaluation of frozen encoders."""

from ikem_fast.evaluate.linear import LinearConfig, evaluate_linear, result_table

__all__ = ["LinearConfig", "evaluate_linear", "result_table"]
