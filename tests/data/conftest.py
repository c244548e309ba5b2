"""Fixtures of the tests of data."""

import pytest


@pytest.fixture
def skeletons(shared):
    """A folder of real NTU RGB+D files."""
    return shared / "data" / "ntu_skeletons"
