"""Skeleton data: raw formats, preprocessing, prepared-dataset folders, and the loader that feeds training."""

from ikem_fast.data.dataset import Dataset, DatasetWriter, Split, open_dataset
from ikem_fast.data.formats.ntu import Skeletons, read_skeleton
from ikem_fast.data.preprocess import preprocess_clip, preprocess_clips

__all__ = [
    "Dataset",
    "DatasetWriter",
    "Skeletons",
    "Split",
    "open_dataset",
    "preprocess_clip",
    "preprocess_clips",
    "read_skeleton",
]
