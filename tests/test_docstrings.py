"""Public functions say what they do in a sentence and show it by an example that runs."""

import functools
import importlib
import inspect
import re
from pathlib import Path
from unittest.mock import MagicMock, create_autospec

import numpy as np
import pytest
import rich
import torch

from ikem_fast import ops
from ikem_fast.skeleton import MODALITIES

PACKAGES = (
    "ikem_fast", "ikem_fast.augment", "ikem_fast.data", "ikem_fast.evaluate", "ikem_fast.nn", "ikem_fast.ops",
    "ikem_fast.pictures", "ikem_fast.predict", "ikem_fast.report", "ikem_fast.skeleton", "ikem_fast.train",
)  # fmt: skip
PUBLIC = {
    name: getattr(importlib.import_module(package), name)
    for package in PACKAGES
    for name in importlib.import_module(package).__all__
}
FUNCTIONS = {name: thing for name, thing in PUBLIC.items() if inspect.isfunction(thing)}
CLASSES = {
    name: thing for name, thing in PUBLIC.items()
    if inspect.isclass(thing) and re.search(r"^Example:$", inspect.getdoc(thing) or "", re.MULTILINE)
}  # fmt: skip
# What uses files, or changes the process, is replaced by what knows its parameters alone.
REPLACED = {
    name for name, thing in FUNCTIONS.items()
    if name.startswith(("evaluate_", "write_", "read_", "comparison_"))
    or thing.__module__.startswith(("ikem_fast.train", "ikem_fast.report"))
} | {
    "load", "open_dataset", "convert_dataset", "drop_copies", "hold_out", "find_groups", "paired_test",
    "result_table", "load_checkpoint", "load_layout", "find_layout", "preprocess_clip", "register_layout",
}  # fmt: skip


def example_of(thing):
    found = re.search(r"^Example:\n((?: {4}.*\n?|\n)+)", inspect.getdoc(thing), re.MULTILINE)
    return found and inspect.cleandoc(found[1])


@pytest.fixture
def names(monkeypatch, tmp_path):
    """What examples take as given: all public names, clips of NTU's layout, results, a picture's parts."""
    monkeypatch.chdir(tmp_path)
    specified = {name: create_autospec(PUBLIC[name]) for name in REPLACED}
    specified["find_groups"].return_value = [MagicMock(), MagicMock()]
    specified["paired_test"].return_value = (4.0, 0.01)
    clips = torch.randn(2, 3, 50, 25, 2)
    clip, dataset = clips[0].numpy(), MagicMock(layout="ntu-rgb+d")
    dataset.__getitem__.return_value.clips = [clip]
    given = {
        "x": clips, "clips": clips, "clip": clip, "raws": [clip[:, :, :20]], "layout": "ntu-rgb+d",
        "dataset": dataset, "modalities": {"joint": clip}, "derived": clips.expand(6, *clips.shape),
        "six": [MagicMock()], "three": [MagicMock()],
    }  # fmt: skip
    modules = {
        "ikem_fast": MagicMock(load=specified["load"]), "ops": ops, "torch": torch, "np": np,
        "rich": MagicMock(spec=rich), "Path": Path, "functools": functools, "MODALITIES": MODALITIES,
    }  # fmt: skip
    return PUBLIC | specified | given | modules


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_functions_say_what_they_do(name):
    """In one sentence ahead of all else, which begins with what is done."""
    first = inspect.getdoc(FUNCTIONS[name]).split("\n\n")[0].replace("\n", " ")
    assert re.match(r"[A-Z]\w+ .*[.:]$", first), first


@pytest.mark.parametrize("name", sorted(FUNCTIONS | CLASSES))
def test_examples_run(name, names):
    example = example_of(PUBLIC[name])
    assert example, f"{name} has no example"
    exec(compile(example, name, "exec"), names)
