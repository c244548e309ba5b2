"""Configurations for the known datasets, and reading sections of them or of a user's own file."""

from collections.abc import Container
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ikem_fast.errors import InputError, printable
from ikem_fast.plain_yaml import read_yaml

# Names that configurations had or have beside their files': one recipe for every protocol of NTU, one for few
# clips.
ALIASES = {
    **dict.fromkeys(("ntu60_xsub", "ntu60_xview", "ntu120_xsub", "ntu120_xset"), "ntu"),
    **dict.fromkeys(("utd_mhad", "nw_ucla"), "small"),
}


def shipped_configs() -> dict[str, Traversable]:
    """List the configurations in this folder: name → file, for every name that `--config` takes."""
    files = resources.files("ikem_fast.configs").iterdir()
    found = {file.name.removesuffix(".yaml"): file for file in files if file.name.endswith(".yaml")}
    return found | {name: found[file] for name, file in ALIASES.items()}


def read_section(
    name_or_file: str | Path, section: str, known: Container[str] | None = None
) -> dict[str, Any]:
    """Read one section of a shipped configuration or a YAML file; {} where it is not there.

    Args:
        name_or_file: of the configuration.
        section: its name.
        known: the sections that a file may have; any if not given.

    Returns:
        Settings by name: numbers, texts, true, false, null, lists of them, and settings again.

    Raises InputError if there is no such file, or if it is anything but a small YAML file with such sections.

    Example:
        read_section("demo", "pretrain")["max_steps"]
    """
    configs = shipped_configs()
    file = configs.get(str(name_or_file))
    if file is None:
        try:
            file = Path(name_or_file).expanduser()
        except RuntimeError:  # ~nobody
            file = Path(name_or_file)
    if not file.is_file():
        names = ", ".join(sorted(configs))
        raise InputError(f"config: expected a YAML file or one of {names}, found {str(name_or_file)!r}")
    content = read_yaml(file)
    if not isinstance(content, dict) or (known is not None and not all(name in known for name in content)):
        names = "sections" if known is None else f"sections out of {', '.join(known)}"
        found = ", ".join(map(repr, content)) if isinstance(content, dict) else repr(content)
        raise InputError(f"{file}: expected {names}, found {printable(found)}")
    settings = content.get(section, {})
    if not isinstance(settings, dict):
        raise InputError(
            f"{file}: expected settings in section {section!r}, found {printable(repr(settings))}"
        )
    problem = _not_plain(settings)
    if problem:
        raise InputError(f"{file}: {section}: {problem}")
    return settings


def _not_plain(value):
    """What is in settings and cannot be one, or None."""
    if isinstance(value, dict):
        wrong = [name for name in value if not isinstance(name, str)]
        if wrong:
            return f"expected names of settings, found {printable(repr(wrong[0]))}"
        return next(filter(None, map(_not_plain, value.values())), None)
    if isinstance(value, list):
        return next(filter(None, map(_not_plain, value)), None)
    if value is None or isinstance(value, str | int | float):
        return None
    return f"expected numbers, texts and lists, found {printable(repr(value))}"
