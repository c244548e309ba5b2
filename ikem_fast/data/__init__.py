"""Skeleton data: raw formats, preprocessing, prepared-dataset folders, and the loader that feeds training."""

from ikem_fast.data.conversion import convert, convert_clips, convert_dataset
from ikem_fast.data.dataset import Dataset, Split, drop_copies, hold_out, open_dataset
from ikem_fast.data.formats import FORMATS, Format
from ikem_fast.data.preprocess import Clip, Skipped, preprocess_clip, preprocess_clips
from ikem_fast.data.skeletons import Skeletons, read_skeleton
from ikem_fast.data.writer import DatasetWriter

__all__ = [
    "FORMATS",
    "Clip",
    "Dataset",
    "DatasetWriter",
    "Format",
    "Skeletons",
    "Skipped",
    "Split",
    "convert",
    "convert_clips",
    "convert_dataset",
    "drop_copies",
    "hold_out",
    "open_dataset",
    "preprocess_clip",
    "preprocess_clips",
    "read_skeleton",
]
