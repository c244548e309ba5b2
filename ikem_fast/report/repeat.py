"""The command that repeats a run: the recipe that is most like it, and each setting that differs."""

import json
import shlex
from dataclasses import fields, is_dataclass
from typing import Any

from ikem_fast.configs import ALIASES, read_section, shipped_configs
from ikem_fast.report.runs import Run
from ikem_fast.train import DistillConfig, ModelConfig, PretrainConfig

LEFT_OUT = ("data", "out", "teacher", "resume")  # said by themselves, or not part of what was done


def repeating_command(run: Run) -> str:
    """Write the command that trains a run anew, one option a line.

    Example:
        repeating_command(read_run(Path("runs/teacher")))
    """
    differences = {
        name: list(_differences(_settings(run, section), run.config))
        for name in sorted(shipped_configs())
        if name not in ALIASES and (section := read_section(name, run.kind))
    }
    recipe = min(differences, key=lambda name: len(differences[name]))
    options = [("--data", run.config["data"])]
    options += [("--teacher", run.config["teacher"])] if run.kind == "distill" else []
    options += [("--out", str(run.config["out"]) + "-again")]
    options += [(f"--{name.replace('_', '-')}", value) for name, value in differences[recipe]]
    lines = [f"ikem-fast {run.kind} --config {recipe}"]
    lines += [f"{option} {shlex.quote(_word(value))}" for option, value in options]
    return " \\\n  ".join(lines)


def _settings(run, section):
    """A recipe's section as settings, with the run's own places."""
    model = {"model": ModelConfig.of(section["model"])} if "model" in section else {}
    places = {"data": run.config["data"], "out": run.config["out"]}
    if run.kind == "distill":
        return DistillConfig(**section | model | places | {"teacher": run.config["teacher"]})
    return PretrainConfig(**section | model | places)


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
