"""Drop-in ops: clips preprocessed, their modalities and streams, losses of features, momentum contrast.

Each op takes `impl="auto" | "fused" | "reference"`. "reference" is plain torch, any device and dtype, the
definition in readable form. "fused" is the hand-written implementation for the tensors' device and raises
where there is none. "auto" takes the fused one where it exists and the reference elsewhere.
"""

from ikem_fast.ops.bank.api import (
    cross_modal_contrast,
    implicit_exchange,
    info_nce,
    knn_predict,
    nearest_neighbors,
    relational_distillation,
)
from ikem_fast.ops.contrast.api import moco_loss, multi_positive_nce, neighbor_kl, soft_contrast
from ikem_fast.ops.dropout.api import dropout
from ikem_fast.ops.modalities.api import derive_modalities
from ikem_fast.ops.momentum.api import ema_update_, enqueue_
from ikem_fast.ops.preprocessing.api import preprocess_clips
from ikem_fast.ops.statistics.api import cross_correlation, variance_covariance
from ikem_fast.ops.streams.api import streams

__all__ = [
    "cross_correlation",
    "cross_modal_contrast",
    "derive_modalities",
    "dropout",
    "ema_update_",
    "enqueue_",
    "implicit_exchange",
    "info_nce",
    "knn_predict",
    "moco_loss",
    "multi_positive_nce",
    "nearest_neighbors",
    "neighbor_kl",
    "preprocess_clips",
    "relational_distillation",
    "soft_contrast",
    "streams",
    "variance_covariance",
]
