"""What several tests share: which parts of the package are built here, and what a folder holds."""

import pytest

from ikem_fast.ops import _library


def needs_library(device_type):
    """A mark that skips a test, with the reason, where the compiled library has no kernels for a device."""
    support = _library.support_on(device_type)
    return pytest.mark.skipif(not support, reason=str(support.problem))


needs_kernel = needs_library("cpu")


def contents(folder):
    """Name → bytes of every file of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
