"""The compiled readers of skeletons and of numbers: `_skeleton_io`, or None where they were not built."""

try:
    from ikem_fast import _skeleton_io
except ImportError:  # installed without a compiler
    _skeleton_io = None

__all__ = ["_skeleton_io"]
