"""What one types next, after a command that ended well: the way from files to a report and to answers."""

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "exported_model.py"  # of a checkout

_EVALUATE = "ikem-fast evaluate linear --data {data} --checkpoint {out} --out {out}/linear"
_REPORT = "ikem-fast report {runs} --out {run}/report.html"
_PREDICT = "ikem-fast predict CLIP --model {model}"
_EXPORT = "ikem-fast export --model {model} --out {model}/model.onnx"
_READ_BACK = "ikem-fast prepare {format} --source {out} --layout {layout} --out {out}/prepared"

# First words of a command → what may come next, of what `_known_by` knows; the usual way first.
NEXT = {
    "demo": (
        "ikem-fast export --model {out}/linear_student --out {out}/student.onnx",
        "ikem-fast prepare auto --source FOLDER --out data/mine",
    ),
    "prepare": ("ikem-fast pretrain --data {out} --out runs/teacher",),
    "write": (_READ_BACK,),
    "pretrain": (_EVALUATE,),
    "distill": (_EVALUATE,),
    "evaluate linear": (_REPORT, _PREDICT, _EXPORT),
    "evaluate raw": ("ikem-fast pretrain --data {data} --out runs/teacher",),
    "evaluate": (_REPORT,),
    "compare": ("ikem-fast report {runs} --out report.html",),
    "report": (_PREDICT, _EXPORT),
    "predict": (_EXPORT,),
    "export": ("python {example} {out} CLIP.npy",),
}


def next_commands(name: str, options: Mapping[str, Any]) -> list[str]:
    """List the commands that one types after this one, with its folders in them; none where none is usual.

    Args:
        name: of the command that ended.
        options: its own, by name.

    Example:
        next_commands("prepare ntu", {"out": "data/ntu60"})  # ["ikem-fast pretrain --data data/ntu60 …"]
    """
    known = {key: _shell(value) for key, value in _known_by(name, options).items()}
    patterns = NEXT.get(name) or NEXT.get(name.split()[0], ())
    filled = (_filled(pattern, known) for pattern in patterns)
    return [command for command in filled if command]


def _known_by(name, options):
    """What the commands that follow have to be told: folders of this one, and what these are known by."""
    known = {key: value for key, value in options.items() if isinstance(value, str | Path)}
    if isinstance(options.get("runs"), tuple):
        known["runs"] = options["runs"]
    if name == "report":
        known["model"] = options["runs"][0]
    elif name.startswith("write "):
        known["format"] = name.split()[1]
        known |= _layout_of(options["data"])
    elif name.startswith("evaluate ") and options.get("checkpoint"):
        run, out = Path(options["checkpoint"]), Path(options["out"])
        run = run.parent if run.suffix == ".pt" else run
        inside = run in (out, *out.parents)
        known |= {"run": run, "runs": run if inside else (run, out), "model": run if inside else out}
    elif name == "export" and options.get("format") == "onnx" and EXAMPLE.is_file():
        known["example"] = min(str(EXAMPLE), os.path.relpath(EXAMPLE), key=len)
    return known


def _layout_of(folder):
    """The layout of a prepared dataset, where it has a name that commands know."""
    from ikem_fast.data.dataset import read_description
    from ikem_fast.skeleton import layout_names

    name = read_description(Path(folder))["layout"]
    return {"layout": name} if name in layout_names() else {}


def _filled(pattern, known):
    """A command with all that it has to be told in it; None where something of it is not known."""
    try:
        return pattern.format_map(known)
    except KeyError:
        return None


def _shell(value):
    return shlex.join(map(str, value)) if isinstance(value, tuple) else shlex.quote(str(value))
