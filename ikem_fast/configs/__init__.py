"""Configurations for the known datasets, and reading sections of them or of a user's own file."""

from importlib import resources
from pathlib import Path

from ikem_fast.errors import InputError


def shipped_configs():
    """Name → file of the configurations in this folder."""
    files = resources.files("ikem_fast.configs").iterdir()
    return {file.name.removesuffix(".yaml"): file for file in files if file.name.endswith(".yaml")}


def read_section(name_or_file, section):
    """One section of a shipped configuration or a YAML file, as a dict; {} where it is not there.

    Raises InputError if there is no such file, or if it is not YAML with sections.
    """
    import yaml

    configs = shipped_configs()
    file = configs.get(str(name_or_file), Path(name_or_file))
    if not file.is_file():
        known = ", ".join(sorted(configs))
        raise InputError(f"config: expected a YAML file or one of {known}, found {str(name_or_file)!r}")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: expected YAML, found: {' '.join(str(error).split())}") from None
    known = ("synthetic", "pretrain", "distill", "linear", "knn")
    if not isinstance(content, dict) or not set(content) <= set(known):
        raise InputError(f"{file}: expected sections out of {', '.join(known)}, found {str(content)[:80]!r}")
    settings = content.get(section, {})
    if not isinstance(settings, dict):
        raise InputError(f"{file}: expected settings in section {section!r}, found {settings!r}")
    if isinstance(settings.get("model"), dict):
        from ikem_fast.nn.config import upgraded

        settings = settings | {"model": upgraded(settings["model"])}
    return settings
