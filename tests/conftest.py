"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared():
    """The folder with real clips and golden numbers that is kept beside the checkout, not in it."""
    folder = Path(os.environ.get("IKEM_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} (real clips and golden numbers are kept outside the repository)")
    return folder


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """A prepared dataset of simulated people, three clips of each action."""
    from ikem_fast.data.formats.synthetic import prepare_synthetic

    folder = tmp_path_factory.mktemp("tiny") / "data"
    prepare_synthetic(folder, clips_per_class=3)
    return folder
