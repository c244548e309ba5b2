"""The command that repeats a run: its recipe, and each setting that differs from it."""

import json
import shlex
from dataclasses import fields, is_dataclass
from typing import Any

from ikem_fast.configs import read_section
from ikem_fast.report.runs import Run
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig

RECIPES = {"pretrain": "small", "distill": "small"}  # what differs least from most runs
LEFT_OUT = ("data", "out", "teacher", "resume")  # said by themselves, or not part of what was done


def repeating_command(run: Run) -> str:
    """Write the command that trains a run anew, one option a line.

    Example:
        repeating_command(read_run(Path("runs/teacher")))
    """
    recipe = RECIPES[run.kind]
    settings = PretrainConfig if run.kind == "pretrain" else DistillConfig
    section = dict(read_section(recipe, run.kind))
    if "model" in section:
        section["model"] = ModelConfig.of(section["model"])
    teacher = {"teacher": run.config["teacher"]} if run.kind == "distill" else {}
    base = settings(data=run.config["data"], out=run.config["out"], **teacher, **section)
    options = [("--data", run.config["data"]), *((f"--{name}", value) for name, value in teacher.items())]
    options += [("--out", str(run.config["out"]) + "-again")]
    options += [(f"--{name.replace('_', '-')}", value) for name, value in _differences(base, run.config)]
    lines = [f"ikem-fast {run.kind} --config {recipe}"]
    lines += [f"{option} {shlex.quote(_word(value))}" for option, value in options]
    return " \\\n  ".join(lines)


def _differences(base: Any, stored: dict[str, Any], prefix: str = ""):
    """(dotted name, stored value) of each setting that is not as it is in `base`."""
    for entry in fields(base):
        if entry.name not in stored or (not prefix and entry.name in LEFT_OUT):
            continue
        present, value = getattr(base, entry.name), stored[entry.name]
        if is_dataclass(present) and isinstance(value, dict):
            yield from _differences(present, value, f"{prefix}{entry.name}.")
        elif _plain(present) != _plain(value):
            yield f"{prefix}{entry.name}", value


def _plain(value):
    return json.loads(json.dumps(value, default=str))


def _word(value):
    return value if isinstance(value, str) else json.dumps(value)
