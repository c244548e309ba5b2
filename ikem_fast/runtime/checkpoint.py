"""Checkpoints: everything a run needs to go on, or another run needs to build the model again.

The file is what `torch.save` writes, a zip archive, with a comment at its end: the SHA-256 of all bytes
before. `torch.load` reads it as it is; `load_checkpoint` reads nothing that does not have the digest that it
had when it was written.
"""

import contextlib
import hashlib
import hmac
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from ikem_fast.errors import InputError, printable
from ikem_fast.files import replacing
from ikem_fast.nn.config import ModelConfig
from ikem_fast.settings import check
from ikem_fast.skeleton import Layout, different, stored_layout

FORMAT = "ikem-fast checkpoint"
VERSION = 2
VERSIONS = (1, VERSION)  # that are read; 1 had no digest
NAME = "checkpoint.pt"
SEAL = b"ikem-fast sha256 "
SEAL_SIZE = len(SEAL) + 2 * hashlib.sha256().digest_size
BARE_END = 22  # bytes that end an archive without a comment
MAX_PICKLE = 1 << 26  # bytes of what is not tensors: settings, names, shapes
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
    unfinished: Mapping[str, Any] | None = None,
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
        unfinished: what else a run gathers between two lines of its log, in plain containers and tensors.

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
        "unfinished": dict(unfinished or {}),
    }
    with replacing(path) as beside:
        _save(state, beside)
        _seal(beside)


def load_checkpoint(path: Path, kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """Read a checkpoint on the CPU; nothing in the file can run code.

    Args:
        path: the file, or the folder of a run.
        kinds: which kinds of run it may be of.

    Returns:
        What `save_checkpoint` was given, by name; every part is there, but that version 1 did not know
        "step", "seconds" and "unfinished".

    Raises InputError if there is none, if one bit of the file is not what was written, if it is something
    else, or of another kind.

    Example:
        load_checkpoint("runs/teacher")["epoch"]
    """
    path = Path(path)
    if path.is_dir():
        path = path / NAME
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, found no such file")
    try:
        state = _read(path)
    except InputError as error:
        before = [other for other in earlier(path.parent) if other != path]
        hint = f"; the one before it is {before[0]}, --resume auto goes on from it" if before else ""
        raise InputError(f"{error}{hint}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(
            f"{path}: expected a checkpoint of ikem-fast, found another file; weights of the published code "
            "load with ikem_fast.nn.load_published_state_dict"
        )
    for name, kind in PARTS.items():
        if not isinstance(state.get(name), kind):
            found = f"one of type {type(state[name]).__name__}" if name in state else "none"
            raise InputError(f"{path}: expected a checkpoint with {name!r} in it, found {found}")
    if state["version"] not in VERSIONS:
        known = " or ".join(map(str, VERSIONS))
        raise InputError(f"{path}: expected checkpoint version {known}, found {state['version']}")
    if state["kind"] not in kinds:
        raise InputError(
            f"{path}: expected a checkpoint of {' or '.join(kinds)}, found {printable(state['kind'])}"
        )
    tensors = state["model"].values()
    if not isinstance(state["dataset"].get("layout"), str) or not all(map(_is_whole, tensors)):
        raise InputError(f"{path}: expected the name of a joint layout and tensors, found something else")
    return state


def earlier(folder: Path) -> list[Path]:
    """List a run's checkpoints before the newest, which it keeps by their steps, latest first."""
    found = [path for path in folder.glob("checkpoint-*.pt") if re.fullmatch(r"checkpoint-\d{8,}", path.stem)]
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """Read the step out of the name of an earlier checkpoint."""
    return int(path.stem.partition("-")[2])


def _is_whole(value):
    """Whether a value is a tensor no larger than the bytes it has: an expanded one takes memory at will."""
    if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


class _Disk(io.BufferedWriter):
    """Keeps the error of a write: torch raises another in its place, which says little of disks."""

    error: OSError | None = None

    def write(self, content):
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            raise


def _save(state, path):
    with _Disk(io.FileIO(path, "wb")) as file:
        try:
            torch.save(state, file)
        except RuntimeError:
            if file.error is not None:
                raise file.error from None
            raise


def _seal(path):
    """Append the digest of a file to it, as the comment of the archive that it is."""
    with path.open("r+b") as file:
        file.seek(-2, 2)  # the length of the comment ends an archive that has none
        file.write(SEAL_SIZE.to_bytes(2, "little"))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest().encode()
        file.seek(0, 2)
        file.write(SEAL + digest)


def _is_sealed(file: BinaryIO) -> bool:
    """Whether a file has the digest that its end says; False too where its end says none."""
    size = file.seek(0, 2)
    file.seek(max(size - SEAL_SIZE, 0))
    end = file.read()
    if not end.startswith(SEAL):
        return False
    digest, left = hashlib.sha256(), size - SEAL_SIZE
    file.seek(0)
    while left and (part := file.read(min(left, 1 << 20))):
        digest.update(part)
        left -= len(part)
    if not hmac.compare_digest(end, SEAL + digest.hexdigest().encode()):
        raise InputError(
            f"{file.name}: expected a checkpoint, found it damaged: its bytes are not those that were written"
        )
    return True


def _read(path):
    """What the file holds; torch checks neither that its bytes are those that were
    written, nor says clearly what is wrong, and its advice (to allow code in the file) is not passed on."""
    try:
        # Opened once: what is checked is what is read.
        with path.open("rb") as file, warnings.catch_warnings():
            sealed = _is_sealed(file)
            _check_archive(file, sealed)
            file.seek(0)
            warnings.simplefilter("ignore")  # of what is refused anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        reason = "it holds more than tensors and plain settings"
    except InputError:
        raise
    except zipfile.BadZipFile:
        reason = "it is not whole, or was never one"
    except Exception as error:  # a crafted file makes torch raise nearly anything
        reason = type(error).__name__
    raise InputError(f"{path}: expected a checkpoint, found a damaged or foreign file ({reason})")


def _check_archive(file, sealed):
    """Raise InputError where an archive is not what `torch.save` writes: members as they are, and whole."""
    size = file.seek(0, 2)
    file.seek(max(size - BARE_END, 0))
    end = file.read()
    ends_bare = end[:4] == b"PK\5\6" and end[-2:] == b"\0\0"
    if not sealed and not ends_bare:  # as version 1 does, without a comment
        raise zipfile.BadZipFile
    with zipfile.ZipFile(file) as archive:
        if archive.comment and not sealed:
            raise zipfile.BadZipFile
        for member in archive.infolist():
            if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
                raise InputError(
                    f"{file.name}: expected a checkpoint, found a compressed {printable(member.filename)!r}"
                )
            if member.filename.endswith("data.pkl") and member.file_size > MAX_PICKLE:
                raise InputError(
                    f"{file.name}: expected at most {MAX_PICKLE} bytes of settings in a checkpoint, found "
                    f"{member.file_size}"
                )
        damaged = archive.testzip()
    if damaged is not None:
        raise InputError(f"{file.name}: expected a checkpoint, found it damaged in {printable(damaged)!r}")


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


def check_fits(state: Mapping[str, Any], path: Path, folder: Path, layout: Layout, bodies: int) -> None:
    """Raise InputError unless a checkpoint's model takes the clips of a prepared dataset.

    Args:
        state: of `load_checkpoint`.
        path: where it is from, for messages.
        folder: of the dataset, for messages.
        layout: of its clips.
        bodies: M of its clips, which matters to encoders that have bodies side by side alone.
    """
    trained = trained_layout(state, path)
    if trained != layout:
        raise InputError(
            f"{path}: expected a model for the layout of {folder}, {layout.name!r}, "
            f"found one for {different(trained, layout)}"
        )
    trained_bodies = stored_bodies(state, path)
    if trained_bodies != bodies and stored_model_config(state, path).encoder.sizes.get("together"):
        raise InputError(
            f"{path}: expected a model for clips of as many bodies as those of {folder}, {bodies}, found one "
            f"whose encoders have {trained_bodies} side by side; prepare with --num-bodies {trained_bodies}, "
            "or use evaluate transfer"
        )


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
