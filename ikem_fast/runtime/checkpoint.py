"""Checkpoints: everything a run needs to go on, or another run needs to build the model again."""

import contextlib
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ikem_fast.errors import InputError, printable
from ikem_fast.files import replacing
from ikem_fast.nn.config import ModelConfig
from ikem_fast.settings import check
from ikem_fast.skeleton import Layout, stored_layout

FORMAT = "ikem-fast checkpoint"
VERSION = 1
NAME = "checkpoint.pt"
KINDS = ("pretrain", "distill")
PARTS = {
    "version": int,
    "kind": str,
    "config": dict,
    "model_config": dict,
    "dataset": dict,
    "epoch": int,
    "model": Mapping,
    "optimizer": dict,
}


def save_checkpoint(
    path: Path,
    *,
    kind: str,
    config: Any,
    model_config: ModelConfig,
    dataset: dict,
    epoch: int,
    step: int,
    seconds: float,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write a checkpoint, whole or not at all: what was at `path` stays until it is on disk.

    Args:
        path: file to write.
        kind: "pretrain" or "distill".
        config: the run's settings, a dataclass.
        model_config: `ModelConfig` of the pretraining model, or of the teacher.
        dataset: what the model was trained on: "name", "layout", "skeleton" (its
            tables), "classes", and what else tells it apart.
        epoch: epochs completed.
        step: steps done.
        seconds: time used for training.
        model, optimizer: whose states are kept.

    Raises OSError where the folder cannot be written to or the disk is full.
    """
    state = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "config": plain(asdict(config)),
        "model_config": plain(asdict(model_config)),
        "dataset": plain(dataset),
        "epoch": epoch,
        "step": step,
        "seconds": seconds,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replacing(path) as beside:
        torch.save(state, beside)


def load_checkpoint(path: Path, kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """Read a checkpoint on the CPU; nothing in the file can run code.

    Args:
        path: the file, or the folder of a run.
        kinds: which kinds of run it may be of.

    Returns:
        What `save_checkpoint` was given, by name; every part is there, but that version 1 did not know "step"
        and "seconds".

    Raises InputError if there is none, if the file is damaged or something else, or of another kind.

    Example:
        load_checkpoint("runs/teacher")["epoch"]
    """
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, found no such file")
    state = _read(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected a checkpoint of ikem-fast, found another file; weights of the published code "
            "load with ikem_fast.nn.load_published_state_dict"
        )
    for name, kind in PARTS.items():
        if not isinstance(state.get(name), kind):
            found = f"one of type {type(state[name]).__name__}" if name in state else "none"
            raise InputError(f"{path}: expected a checkpoint with {name!r} in it, found {found}")
    if state["version"] != VERSION:
        raise InputError(f"{path}: expected checkpoint version {VERSION}, found {state['version']}")
    if state["kind"] not in kinds:
        raise InputError(f"{path}: expected a checkpoint of {' or '.join(kinds)}, found {state['kind']}")
    if not isinstance(state["dataset"].get("layout"), str) or not all(
        isinstance(value, torch.Tensor) for value in state["model"].values()
    ):
        raise InputError(f"{path}: expected the name of a joint layout and tensors, found something else")
    return state


def _read(path):
    """What the file holds; torch checks neither that its bytes are those that were written, nor says clearly
    what is wrong, and its advice (to allow code in the file) is not passed on."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise InputError(f"{path}: expected a checkpoint, found it damaged in {damaged!r}")
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        reason = "it holds more than tensors and plain settings"
    except InputError:
        raise
    except zipfile.BadZipFile:
        reason = "it is not whole, or was never one"
    except Exception as error:  # a crafted file makes torch raise nearly anything
        reason = type(error).__name__
    raise InputError(f"{path}: expected a checkpoint, found a damaged or foreign file ({reason})")


def stored_model_config(state: Mapping[str, Any], path: Path) -> ModelConfig:
    """Return the `ModelConfig` that a checkpoint's model is built from.

    Args:
        state: of `load_checkpoint`.
        path: where it is from, for messages.

    Raises InputError where settings in it are unknown or out of range.
    """
    try:
        config = ModelConfig.of(state["model_config"])
        check(config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return config


def trained_layout(state: Mapping[str, Any], path: Path) -> Layout:
    """Return the joint layout of the clips that a checkpoint's model was trained on.

    Args:
        state: of `load_checkpoint`.
        path: where it is from, for messages.

    Raises InputError where its tables are none, or its name, which is all that an old one has, is not known.
    """
    return stored_layout(state["dataset"], str(path))


def stored_bodies(state: Mapping[str, Any], path: Path) -> int:
    """Return M of the clips that a checkpoint's model was trained on; 2 where an old one does not say.

    Args:
        state: of `load_checkpoint`.
        path: where it is from, for messages.

    Raises InputError where it says something else than a number of bodies.
    """
    shape = state["dataset"].get("shape", [3, 0, 0, 2])
    if not isinstance(shape, list) or len(shape) != 4 or not isinstance(shape[3], int) or shape[3] < 1:
        raise InputError(f"{path}: expected the shape (C, T, V, M) of its clips, found {printable(shape)}")
    return shape[3]


@contextlib.contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn what torch raises where a checkpoint does not fit the model of its settings into InputError.

    Example:
        with fitting(path):
            model.load_state_dict(state["model"])
    """
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = printable(" ".join(str(error).split()))
        raise InputError(f"{path}: its weights do not fit the model of its settings: {reason}") from None


def plain(value: Any) -> Any:
    """Turn settings into plain containers, which are stored and loaded without running code."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
