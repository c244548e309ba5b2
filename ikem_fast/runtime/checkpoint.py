"""Checkpoints: everything a run needs to go on, or another run needs to build the model again."""

import pickle
from dataclasses import asdict
from pathlib import Path

import torch

from ikem_fast.errors import InputError

FORMAT = "ikem-fast checkpoint"
VERSION = 1
NAME = "checkpoint.pt"


def save_checkpoint(path, *, kind, config, model_config, dataset, epoch, model, optimizer):
    """Write a checkpoint beside `path`, then give it that name: what was there stays whole until then.

    Args:
        kind: "pretrain" or "distill".
        config: the run's settings, a dataclass.
        model_config: `ModelConfig` of the pretraining model, or of the teacher.
        dataset: `data.Dataset` that the model was trained on.
        epoch: epochs completed.
    """
    state = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "config": plain(asdict(config)),
        "model_config": plain(asdict(model_config)),
        "dataset": {"name": dataset.name, "layout": dataset.layout, "classes": list(dataset.classes)},
        "epoch": epoch,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    path = Path(path)
    beside = path.with_name(path.name + ".partial")
    torch.save(state, beside)
    beside.replace(path)


def load_checkpoint(path, kinds=("pretrain", "distill")):
    """Read a checkpoint on the CPU; nothing in the file can run code.

    Raises InputError if there is none, if the file is damaged or something else, or of another kind.
    """
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, found no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: expected a checkpoint, found a damaged or foreign file ({reason})"
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected a checkpoint of ikem-fast, found another file; weights of the published code "
            "load with ikem_fast.nn.load_published_state_dict"
        )
    if state["version"] != VERSION:
        raise InputError(f"{path}: expected checkpoint version {VERSION}, found {state['version']}")
    if state["kind"] not in kinds:
        raise InputError(f"{path}: expected a checkpoint of {' or '.join(kinds)}, found {state['kind']}")
    return state


def plain(value):
    """Settings as plain containers, which are stored and loaded without running code."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
