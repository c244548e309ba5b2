"""What is installed, whether this machine computes right and how fast, and what to do where it does not."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
import torch

import ikem_fast
from ikem_fast.data import open_dataset
from ikem_fast.data.report import report
from ikem_fast.errors import InputError, printable
from ikem_fast.ops import _library
from ikem_fast.ops._support import YES, Support, support_on_gpu
from ikem_fast.runtime.device import UNFIT
from ikem_fast.selftest import Outcome, self_test
from ikem_fast.skeleton import MAX_COORDINATE

INSTEAD = "plain torch in its place"


def doctor(
    data: Path | None = None, model: Path | None = None, quick: bool = False, out: Path | None = None
) -> int:
    """Say whether ikem-fast works here, and what to do where it does not; "ok" is said of what ran alone.

    Every kernel is run and held to the reference, which takes a minute at most.

    Args:
        data: Folder of a prepared dataset to check, too, and to say of it what its preparation said.
        model: Folder of a bundle, of an evaluation or of a run, or a checkpoint, to check, too.
        quick: Whether to leave out what takes time: the self-test, and the values of clips.
        out: The picture to draw (PNG) of one of the dataset's clips for each class.

    Returns:
        Exit status: 0, or 1 where a kernel is wrong, or a dataset or model cannot be used.
    """
    if out is not None and data is None:
        raise InputError(f"out: expected data, of which a picture can be drawn, found {out} alone")
    outcomes = [] if quick else [one for device in _all_devices() for one in self_test(device)]
    checks = [*_data(data, quick), *_model(model)]
    _show("versions", _versions())
    _show("devices", _devices())
    _show("parts", _parts())
    if outcomes:
        _show("self-test", [_row(outcome) for outcome in outcomes])
    if checks:
        _show("checks", checks)
    _show("what to do", [(cause, advice) for cause, advice in _advice(outcomes)] or [("nothing", "")])
    if data is not None and checks[0][1].startswith("ok"):
        _look_at(open_dataset(data), out)
    wrong = [one for one in outcomes if one.error is not None and one.problem]
    return 1 if wrong or any(not said.startswith("ok") for _, said in checks) else 0


def _show(title, rows):
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, show_header=False, title_justify="left", min_width=40)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _look_at(dataset, out):
    """Report on a dataset, and draw the first clip of each class."""
    report(dataset)
    if out is None:
        return
    from ikem_fast.pictures.raster import write_strip
    from ikem_fast.pictures.scene import body_panel

    firsts = {}
    for split in dataset.splits.values():
        for place in np.unique(np.asarray(split.labels), return_index=True)[1]:
            firsts.setdefault(int(split.labels[place]), split.clips[place])
    panels = [
        body_panel(np.array(clip), dataset.skeleton, title=printable(dataset.classes[label]), trails=False)
        for label, clip in sorted(firsts.items())
    ]
    if not panels:
        raise InputError(f"{dataset.folder}: expected clips to draw, found none")
    write_strip(panels, out, title=dataset.name)
    print(out)


def _versions():
    def version(package):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    names = ("torch", "triton", "numpy", "safetensors", "onnxruntime", "huggingface_hub")
    return [
        ("ikem-fast", ikem_fast.__version__),
        ("python", platform.python_version()),
        ("platform", platform.platform()),
        *((name, version(name)) for name in names),
        ("torch's CUDA", torch.version.cuda or "none: a CPU build of torch"),
    ]


def _all_devices():
    return [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]


def _devices():
    rows = [("cpu", f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        code = code_for((card.major, card.minor))
        there = "the binary has code for it" if code else printable(code.problem)
        size = f"{card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}"
        rows.append((f"cuda:{index}", f"{card.name}, {size}; {there}"))
    if len(rows) == 1:
        rows.append(("cuda", "no device"))
    if torch.backends.mps.is_available():
        rows.append(("mps", f"not used: {UNFIT['mps']}"))
    return rows


def code_for(capability: tuple[int, int]) -> Support:
    """Say whether the binary has code for a GPU: its own, of an earlier one of its generation, or PTX.

    capability: (major, minor).

    Example:
        code_for((9, 0)).problem  # None, or why there is none
    """
    on_gpu = _library.support_on("cuda")
    built = _library.architectures()
    if not on_gpu or not built:
        return on_gpu or Support("the build did not record which architectures the binary has code for")
    for entry in built:
        number = entry.removesuffix("+PTX")
        major, minor = (int(part) for part in number.rstrip("af").split("."))
        least = minor == capability[1] if number.endswith("a") else minor <= capability[1]
        if (major == capability[0] and least) or (entry.endswith("+PTX") and (major, minor) <= capability):
            return YES
    here = ".".join(map(str, capability))
    return Support(f"the binary has code for {', '.join(built)} and this GPU is {here}")


def _parts():
    triton = _importable("ikem_fast.ops.bank.triton") and _importable("ikem_fast.ops.encoder.triton")
    if triton and torch.cuda.is_available():
        triton = support_on_gpu(torch.device("cuda", torch.cuda.current_device()))
    reader = _importable("ikem_fast._skeleton_io")
    return [
        ("derive_modalities, preprocess_clips, encoder on the CPU", _said(_library.support_on("cpu"))),
        ("derive_modalities, preprocess_clips on a GPU", _said(_library.support_on("cuda"))),
        ("bank losses and ST-GCN on a GPU (Triton)", _said(triton)),
        ("autotuning of the bank losses", _autotuning() if triton else "off: there is nothing to tune"),
        (".skeleton reader", _read_a_file() if reader else _said(reader)),
    ]


def _said(support):
    """A part that is there has not run yet: the self-test says whether it is right."""
    return "there" if support else f"{INSTEAD}: {printable(support.problem)}"


def _read_a_file():
    """The compiled reader against the readable one, on a file of one frame."""
    from ikem_fast import _skeleton_io
    from ikem_fast.data.skeletons import parse_in_python

    joint = " ".join(f"{0.1 * number:.1f}" for number in range(12))
    text = "\n".join(["1", "1", "7 0 0 0 0 0 0 0 0 0", "25", *[joint] * 25, ""]).encode()
    ours, plain = _skeleton_io.parse(text), parse_in_python(text)
    same = ours[0] == plain[0] and all((a == b).all() for a, b in zip(ours[1:], plain[1:], strict=True))
    return "ok" if same else "reads otherwise than the reader in Python"


def _autotuning():
    from ikem_fast.ops.bank.triton import tuning

    if tuning.enabled():
        return f"on: measured tiles are kept in {tuning.cache_folder()}"
    return f"off: pinned tiles ({tuning.SWITCH}=1 turns it on)"


def _importable(module):
    """The `Support` of a part that is optional: whatever its import raises is why it is not there."""
    try:
        import_module(module)
    except Exception as error:
        return Support(f"{type(error).__name__}: {error}")
    return YES


def _row(outcome: Outcome) -> tuple[str, str]:
    name = f"{outcome.name} on {outcome.device}"
    if outcome.error is None:
        return name, f"{INSTEAD}: {outcome.problem}"
    if outcome.fused is None:
        return name, f"wrong: {outcome.problem}"
    speed = f"{outcome.fused:.1f} ms, reference {outcome.reference:.1f} ms"
    verdict = f"wrong: {outcome.problem}" if outcome.problem else "ok"
    return name, f"{verdict}: error {outcome.error:.0e}, {speed}"


def _data(folder, quick) -> Iterator[tuple[str, str]]:
    if folder is None:
        return
    try:
        dataset = open_dataset(folder)
        for name, split in dataset.splits.items():
            clips = () if quick else zip(split.names, split.clips, strict=True)
            bad = [clip for clip, values in clips if not abs(values).max(initial=0) < MAX_COORDINATE]
            if bad:
                raise InputError(f"expected finite clips, found another: {bad[0]} of {name}; prepare it anew")
        counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
        yield printable(folder), f"ok: {counts} clips of {len(dataset.classes)} classes, {dataset.layout}"
    except (InputError, OSError) as error:
        yield printable(folder), printable(error)


def _model(path) -> Iterator[tuple[str, str]]:
    if path is None:
        return
    try:
        bundle = ikem_fast.load(path)
        answers = ", ".join(bundle.sets) or "no classifier: features alone"
        yield printable(path), f"ok: {len(bundle.description.modalities)} encoders; {answers}"
    except (InputError, OSError) as error:
        yield printable(path), printable(error)


def _advice(outcomes) -> Iterator[tuple[str, str]]:
    """What is not as it should be here, and what to do."""
    again = "pip install . --no-build-isolation"
    cpu, gpus = _library.support_on("cpu"), torch.cuda.device_count()
    if not cpu:
        compiler = "" if shutil.which(os.environ.get("CXX", "c++")) else "install a C++ compiler, then "
        yield printable(cpu.problem), f"{compiler}build it against the torch that is installed: {again}"
    if not gpus and shutil.which("nvidia-smi"):
        build = "a CPU build" if torch.version.cuda is None else f"a build for CUDA {torch.version.cuda}"
        cause = f"nvidia-smi is here, and torch ({build}) sees no GPU"
        yield cause, "install torch for your CUDA: pytorch.org"
    for index in range(gpus):
        capability = torch.cuda.get_device_capability(index)
        code, number = code_for(capability), ".".join(map(str, capability))
        if not code:
            yield f"cuda:{index}: {printable(code.problem)}", f"TORCH_CUDA_ARCH_LIST={number} {again}"
    if gpus and not _importable("ikem_fast.ops.bank.triton"):
        yield "bank losses on a GPU run in plain torch", "pip install 'ikem-fast[triton]'"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.get_num_threads() < cores:
        cause = f"torch uses {torch.get_num_threads()} of {cores} cores"
        yield cause, f"OMP_NUM_THREADS={cores}, if they are free"
    for one in outcomes:
        if one.error is not None and one.problem:
            cause = f"{one.name} on {one.device} is wrong"
            yield cause, 'use impl="reference", and report it with this output'
