"""A bundle: the folder with all that turns a raw clip into an answer, in the form of the Hugging Face hub.

    model.safetensors   weights of encoders and classifiers, nothing else
    config.json         format, version, layout, preprocessing, classes, settings, figures, checksums
    README.md           the model card: what it is, what it reaches, how to use it

Nothing in it can run code, and nothing in it is believed: every entry is held against what it must be, sizes
against the tensors that there are before a model is built, and tensors against the model.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from ikem_fast.errors import InputError, printable
from ikem_fast.files import replacing, write_text
from ikem_fast.nn.build import build_encoders
from ikem_fast.nn.config import ModelConfig
from ikem_fast.nn.recognizer import LinearHead, Recognizer
from ikem_fast.ops.modalities.definitions import DEFINITIONS
from ikem_fast.runtime.card import model_card
from ikem_fast.runtime.checkpoint import fitting, plain
from ikem_fast.settings import check
from ikem_fast.skeleton import Layout

FORMAT = "ikem-fast bundle"
VERSION = 1
FOLDER = "bundle"  # in the folder of an evaluation
CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
MAX_CONFIG_BYTES = 1 << 22
MAX_JOINTS, MAX_CLASSES, MAX_FRAMES, MAX_BODIES = 256, 1 << 12, 1 << 12, 16
ENCODER_SETTINGS = ("hidden_channels", "hidden_dim", "dropout", "strategy", "feature_dim", "encoder")
DEPTHS = ("blocks", "layers")  # sizes that count modules


@dataclass(frozen=True)
class Description:
    """What a bundle says of itself, beside its weights.

    dataset: name of the dataset that the classifiers were fitted to.
    layout: of the joints.
    bodies: M, of a clip.
    frames: T, that a clip is resampled to.
    classes: their names.
    modalities: of the encoders.
    model: settings that the encoders are built from.
    prepared: how the dataset's clips were made of raw ones.
    results: what the evaluation measured: its probe, sets, baselines, numbers of clips.
    training: settings of the run that the encoders are from, and its epochs.
    """

    dataset: str
    layout: Layout
    bodies: int
    frames: int
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    model: ModelConfig
    prepared: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)


def write_bundle(folder: str | os.PathLike[str], recognizer: Recognizer, description: Description) -> Path:
    """Write a bundle, each file whole or not at all; the folder is made.

    `config.json`, without which there is no bundle, is replaced last.

    Args:
        folder: where to.
        recognizer: encoders as `nn.build.build_encoders` makes them, and classifiers.
        description: all else.

    Raises OSError where the folder cannot be written to or the disk is full.

    Example:
        write_bundle("runs/teacher/linear/bundle", recognizer, description)
    """
    from safetensors.torch import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in recognizer.state_dict().items()}
    with replacing(folder / WEIGHTS) as beside:
        beside.write_bytes(save(state, metadata={"format": "pt"}))
    content = {
        "format": FORMAT,
        "version": VERSION,
        **plain(asdict(description)),
        "layout": _layout_tables(description.layout),
        "model": {name: plain(asdict(description.model))[name] for name in ENCODER_SETTINGS},
        "sets": list(recognizer.heads),
        "weights": {"bytes": (folder / WEIGHTS).stat().st_size, "sha256": _sha256(folder / WEIGHTS)},
    }
    write_text(folder / CARD, model_card(content))
    write_text(folder / CONFIG, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return folder


def read_bundle(folder: str | os.PathLike[str]) -> tuple[Recognizer, Description]:
    """Read what `write_bundle` wrote.

    Returns:
        The recognizer, on the CPU in eval mode, and what the bundle says of itself.

    Raises InputError naming the file, what was expected and what was found, if anything is missing, damaged,
    of another version, or at odds with the rest.

    Example:
        recognizer, description = read_bundle("runs/teacher/linear/bundle")
    """
    folder = Path(folder)
    path = folder / CONFIG
    content = _read_config(path)
    description = _description(path, content)
    state = _read_weights(folder / WEIGHTS, content["weights"])
    _check_depth(path, description.model, len(state))
    heads = {name: _head(folder / WEIGHTS, name, state, description) for name in content["sets"]}
    recognizer = Recognizer(_empty_encoders(path, description), description.layout, heads)
    with fitting(folder / WEIGHTS):
        recognizer.load_state_dict(state, assign=True)
    return recognizer.requires_grad_(False).eval(), description


def _layout_tables(layout):
    return {entry.name: plain(getattr(layout, entry.name)) for entry in fields(layout) if entry.init}


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_config(path):
    if not path.is_file():
        raise InputError(f"{path}: expected a bundle of ikem-fast, found no such file")
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise InputError(f"{path}: expected at most {MAX_CONFIG_BYTES} bytes, found {size}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: expected a JSON file, found: {printable(error)}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path}: expected format {FORMAT!r}, found {printable(repr(found))}")
    if content.get("version") != VERSION:
        found = printable(repr(content.get("version")))
        raise InputError(f"{path}: expected version {VERSION}, found {found}; update ikem-fast")
    for name, (wording, fits) in _ENTRIES.items():
        if name not in content or not fits(content[name]):
            found = printable(repr(content.get(name, "none")), 100)
            raise InputError(f"{path}: expected {name!r} to be {wording}, found {found}")
    return content


def _is_count(value, most):
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_names(value, most):
    texts = isinstance(value, list) and all(isinstance(item, str) and item.isprintable() for item in value)
    return texts and len(value) <= most


def _is_modalities(value):
    return _is_names(value, len(DEFINITIONS)) and 0 < len(value) == len({*value} & {*DEFINITIONS})


def _is_weights(value):
    return isinstance(value, dict) and isinstance(value.get("sha256"), str)


_OBJECT = ("an object", lambda value: isinstance(value, dict))
# What each entry of config.json must be: (wording for the message, test).
_ENTRIES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "dataset": ("a printable name", lambda value: isinstance(value, str) and value.isprintable()),
    "layout": _OBJECT,
    "bodies": (f"a number from 1 to {MAX_BODIES}", lambda value: _is_count(value, MAX_BODIES)),
    "frames": (f"a number from 1 to {MAX_FRAMES}", lambda value: _is_count(value, MAX_FRAMES)),
    "classes": (f"at most {MAX_CLASSES} printable names", lambda value: _is_names(value, MAX_CLASSES)),
    "modalities": (f"names out of {', '.join(DEFINITIONS)}, each once", _is_modalities),
    "model": _OBJECT,
    "prepared": _OBJECT,
    "results": _OBJECT,
    "training": _OBJECT,
    "sets": ("a list of names", lambda value: _is_names(value, 1 << len(DEFINITIONS))),
    "weights": ("an object with the 'sha256' of the weights", _is_weights),
}


def _description(path, content):
    try:
        model = ModelConfig.of({name: content["model"].get(name) for name in ENCODER_SETTINGS})
        check(model)
        layout = _layout(content["layout"])
    except (InputError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: {printable(error)}") from None
    texts = {name: tuple(content[name]) for name in ("classes", "modalities")}
    same = ("dataset", "bodies", "frames", "prepared", "results", "training")
    return Description(layout=layout, model=model, **texts, **{name: content[name] for name in same})


def _layout(tables):
    """A `Layout` of its tables, whatever stands in them."""
    known = {entry.name for entry in fields(Layout) if entry.init}
    if not set(tables) <= known:
        raise ValueError(f"layout: expected tables out of {', '.join(sorted(known))}, found others")
    joints = tables.get("joints")
    if not _is_names(joints, MAX_JOINTS) or not isinstance(tables.get("name"), str):
        raise ValueError(f"layout: expected a name and at most {MAX_JOINTS} names of joints, found others")
    return Layout(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in tables.items()}
    )


def _read_weights(path, expected):
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise InputError(f"{path}: expected the weights of a bundle, found no such file")
    found = _sha256(path)
    if found != expected["sha256"]:
        raise InputError(
            f"{path}: expected the weights that {CONFIG} names (sha256 {printable(expected['sha256'], 12)}), "
            f"found others (sha256 {found[:12]}...); copy the folder again"
        )
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: expected a safetensors file, found: {printable(error)}") from None
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{path}: expected finite weights, found others in {printable(name)}")
    return state


def _check_depth(path, model, tensors):
    """A module more costs time even where its weights cost no memory: there are no more than tensors."""
    for name in DEPTHS:
        depth = model.encoder.sizes.get(name, 1)
        if not isinstance(depth, int) or depth > tensors:
            raise InputError(f"{path}: expected {name} of {tensors} tensors, found {printable(repr(depth))}")


def _empty_encoders(path, description):
    """Encoders without memory: sizes cost nothing until the tensors are seen to have them."""
    model, layout, bodies = description.model, description.layout, description.bodies
    try:
        with torch.device("meta"), fitting(path):
            return build_encoders(model, layout, description.modalities, bodies=bodies)
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from None


def _head(path, name, state, description):
    parts = name.split("+")
    if not set(parts) <= set(description.modalities) or len(set(parts)) != len(parts):
        raise InputError(
            f"{path.parent / CONFIG}: expected sets of {', '.join(description.modalities)}, found {name!r}"
        )
    weight, bias, temperature = (
        state.get(f"heads.{name}.{part}") for part in ("weight", "bias", "temperature")
    )
    classes = len(description.classes)
    shapes = [None if one is None else tuple(one.shape) for one in (weight, bias, temperature)]
    if shapes[1:] != [(classes,), ()] or len(shapes[0] or ()) != 2 or shapes[0][1] != classes:
        raise InputError(f"{path}: expected a classifier of {classes} classes for {name}, found {shapes}")
    if not 0 < temperature.item() < math.inf:
        raise InputError(f"{path}: expected a temperature > 0 for {name}, found {temperature.item()}")
    return LinearHead(weight, bias, temperature.item())
