"""Prediction: from what a run left and a raw clip to an answer, here or in another runtime."""

from ikem_fast.predict.bundle import Answer, Bundle, Prediction, load

__all__ = ["Answer", "Bundle", "Prediction", "load"]
