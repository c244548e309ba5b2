"""What is installed, which fused ops are active on this machine, and why others are not."""

import platform
from importlib import import_module, metadata
from pathlib import Path

import numpy as np
import torch

import ikem_fast
from ikem_fast.data import open_dataset
from ikem_fast.data.report import report
from ikem_fast.errors import InputError, printable
from ikem_fast.ops._support import YES, Support, support_on_gpu
from ikem_fast.runtime.device import UNFIT


def doctor(data: Path | None = None, out: Path | None = None) -> None:
    """Print versions, devices, and for each fused part whether it is active; or what a dataset looks like.

    Args:
        data: Folder of a prepared dataset, to say of it what its preparation said.
        out: The picture to draw (PNG) of one of its clips for each class.
    """
    if data is not None:
        _look_at(open_dataset(data), out)
        return
    if out is not None:
        raise InputError(f"out: expected data, of which a picture can be drawn, found {out} alone")
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for title, rows in (("versions", _versions()), ("devices", _devices()), ("fused ops", _fused())):
        table = Table(title=title, show_header=False, title_justify="left", min_width=40)
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)


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

    return [
        ("ikem-fast", ikem_fast.__version__),
        ("python", platform.python_version()),
        ("platform", platform.platform()),
        *((name, version(name)) for name in ("torch", "triton", "numpy")),
        ("torch's CUDA", torch.version.cuda or "none: a CPU build of torch"),
    ]


def _devices():
    rows = [("cpu", f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")]
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        rows.append((f"cuda:{index}", f"{card.name}, {card.total_memory / 2**30:.0f} GiB"))
    if len(rows) == 1:
        rows.append(("cuda", "no device"))
    if torch.backends.mps.is_available():
        rows.append(("mps", f"not used: {UNFIT['mps']}"))
    return rows


def _fused():
    from ikem_fast.ops._library import support_on

    cpu, gpu = (_said(support_on(device), "plain torch in their place") for device in ("cpu", "cuda"))
    triton = _importable("ikem_fast.ops.bank.triton")
    if triton and torch.cuda.is_available():
        triton = support_on_gpu(torch.device("cuda", torch.cuda.current_device()))
    reader = _importable("ikem_fast._skeleton_io")
    return [
        ("derive_modalities, preprocess_clips on the CPU", cpu),
        ("derive_modalities, preprocess_clips on a GPU", gpu),
        ("blocks of the encoder on the CPU", cpu),
        ("bank losses on the CPU", "ok"),
        ("bank losses on a GPU", _said(triton, "plain torch in their place")),
        ("autotuning of the bank losses", _autotuning() if triton else "off: there is nothing to tune"),
        (".skeleton reader", _said(reader, "Python and plain torch in its place")),
    ]


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


def _said(support, instead):
    return "ok" if support else f"{instead}: {printable(support.problem)}"
