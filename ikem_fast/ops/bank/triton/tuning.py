"""Which tiles an operator's kernels are launched with: the pinned ones, or if asked for the fastest.

With IKEM_AUTOTUNE=1 in the environment the first call of an op with new sizes times the tiles that fit, and
the result is kept in a file for each GPU under the user's cache folder. Nothing is timed while a CUDA graph
is captured, nor used in deterministic mode: another tile adds up in another order.
"""

import json
import os
import re
import warnings
from pathlib import Path

import torch
import triton

from ikem_fast.files import write_text

SWITCH = "IKEM_AUTOTUNE"


def enabled():
    return os.environ.get(SWITCH) == "1"


def cache_folder():
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ikem-fast"


def launch(kernel, candidates, features, queue, run, variant=()):
    """run(choice) with the choice for these tensors: what it returns.

    candidates: `Tiles`, the pinned ones first. variant: what else, besides the tensors' sizes and dtypes,
    makes the kernel another one.
    """
    if len(candidates) == 1 or not enabled() or torch.are_deterministic_algorithms_enabled():
        return run(candidates[0])
    path = cache_folder() / f"tiles-{_file_name(torch.cuda.get_device_name(features.device))}.json"
    key = shape_class(kernel, features, queue, variant)
    return run(choose(key, candidates, run, path, _milliseconds, torch.cuda.is_current_stream_capturing))


def shape_class(kernel, features, queue, variant=()):
    """What a measured tile holds for: batch and bank count in steps of 2, everything else exactly."""
    sizes = (
        features.shape[0], triton.next_power_of_2(features.shape[1]), features.shape[2],
        triton.next_power_of_2(queue.shape[1]), features.dtype, queue.dtype,
    )  # fmt: skip
    return " ".join(map(str, (kernel, *sizes, *variant, f"triton-{triton.__version__}")))


def choose(key, candidates, run, path, timer, capturing):
    """The fastest candidate by `timer` (the time of a call, in any unit), remembered in `path` under `key`.

    During capture: the remembered one, or the first.
    """
    remembered = _remembered(path)
    tiles = {_written(choice): choice for choice in candidates}
    if remembered.get(key) in tiles:
        return tiles[remembered[key]]
    if capturing():
        return candidates[0]
    times = {tile: timer(lambda c=choice: run(c)) for tile, choice in tiles.items()}
    fastest = min(times, key=times.get)
    _remember(path, key, fastest)
    return tiles[fastest]


def _milliseconds(call):
    """Median time on the GPU; infinite where the kernel needs more than a multiprocessor has."""
    try:
        return triton.testing.do_bench(call, warmup=10, rep=50, return_mode="median")
    except triton.runtime.errors.OutOfResources:
        return float("inf")


def _written(tiles):
    return f"{tiles.rows}x{tiles.keys}, {tiles.warps} warps, {tiles.stages} stages of {tiles.piece}"


_read = {}


def _remembered(path):
    """{key: tile as written} of a file, read once; what cannot be read is said once and measured anew."""
    if path not in _read:
        try:
            found = json.loads(path.read_text())
            if not isinstance(found, dict):
                raise ValueError(f"expected an object, found {type(found).__name__}")
        except FileNotFoundError:
            found = {}
        except (OSError, ValueError) as error:
            warnings.warn(f"{path}: cannot be read, tiles are measured anew ({error})", stacklevel=2)
            found = {}
        _read[path] = found
    return _read[path]


def _remember(path, key, tile):
    _read[path][key] = tile
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(_read[path], indent=1, sort_keys=True) + "\n", contended=True)
    except OSError as error:
        warnings.warn(f"{path}: cannot be written, tiles hold for this process ({error})", stacklevel=2)


def _file_name(name):
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()
