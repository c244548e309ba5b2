"""The compiled op library `ikem_fast._C` (csrc/): loading it, and saying what is in it.

The library is loaded once, when this module is first imported, and never compiled. Where it is missing or
cannot be loaded the package works without it, and `status` has the reason.
"""

import json
from pathlib import Path

import torch

from ikem_fast.ops._support import YES, Support

_PACKAGE = Path(__file__).resolve().parents[1]
# One of each file that registers ops.
_OPS = ("derive_modalities", "preprocess_clips", "block_output", "streams", "dropout")


def _recorded(part):
    """What setup.py wrote down about a part of the build."""
    try:
        return json.loads((_PACKAGE / "_build.json").read_text())[part]
    except (OSError, ValueError, KeyError):
        return "no build was recorded"


def _load():
    """Path of the library and None, or (None, why there is no library)."""
    library = _PACKAGE / "_C.abi3.so"
    if not library.exists():
        return None, f"{library} is missing ({_recorded('_C')})"
    try:
        torch.ops.load_library(library)
    except OSError as e:
        reason = e.__cause__ or e  # torch names the file, the cause says what is wrong with it
        return None, f"{library} cannot be loaded: {reason}"
    missing = [name for name in _OPS if not hasattr(torch.ops.ikem_fast, name)]
    if missing:
        return None, f"{library} is of another version, without {', '.join(missing)}: build the package again"
    return library, None


def _devices():
    """Types of device that the library has kernels for."""
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return tuple(d for d in ("cpu", "cuda") if has_kernel("ikem_fast::derive_modalities", d.upper()))


def architectures():
    """GPU architectures that the library was built for, as `TORCH_CUDA_ARCH_LIST` has them; empty if none."""
    recorded = _recorded("cuda")
    return () if " " in recorded else tuple(recorded.split(";"))  # words say why there are none


LIBRARY, PROBLEM = _load()
DEVICES = () if LIBRARY is None else _devices()


def status():
    """What is compiled in, for people: {"library": path or None, "cpu": …, "cuda": …}; "ok", or why not."""
    return {
        "library": None if LIBRARY is None else str(LIBRARY),
        "cpu": support_on("cpu").problem or "ok",
        "cuda": support_on("cuda").problem or "ok",
    }


def support_on(device_type):
    """The `Support` of the library's kernels on a type of device."""
    if device_type in DEVICES:
        return YES
    return Support(PROBLEM or f"{LIBRARY} has no kernels for {device_type} ({_recorded(device_type)})")
