"""ikem-fast: self-supervised learning of actions from skeletons, as a performance-engineered core.

The method is IKEM, "Elevating Skeleton-Based Action Recognition with Efficient Multi-Modality
Self-Supervision" (arXiv 2309.12009). Importing this package needs torch and numpy alone.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from ikem_fast.skeleton import MODALITIES

try:
    __version__ = version("ikem-fast")
except PackageNotFoundError:  # a source tree on PYTHONPATH, not installed
    __version__ = "0+unknown"

_ROOMS = ("augment", "data", "evaluate", "nn", "ops", "predict", "skeleton", "train")

__all__ = ["MODALITIES", "__version__", "load", *_ROOMS]


def __getattr__(name):
    """Import a subpackage at its first use: `import ikem_fast; ikem_fast.ops.info_nce(...)`."""
    if name in _ROOMS:
        return import_module(f"ikem_fast.{name}")
    if name == "load":
        return import_module("ikem_fast.predict").load
    raise AttributeError(f"module 'ikem_fast' has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
