"""YAML files of other people's, read in bounded time and memory: no anchors, no tags, no great depth."""

from typing import Any

from ikem_fast.errors import InputError, printable

MAX_BYTES = 1 << 16  # of a file
MAX_DEPTH = 8  # of what is in it: sections, settings, settings of the model, their lists


def load_yaml(text: str) -> Any:
    """Read YAML in bounded time and memory: no anchors, which expand without bound, no tags, no great depth.

    Raises InputError that says what was found and where.
    """
    import yaml
    from jsonargparse import get_loader

    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            line = event.start_mark.line + 1
            if getattr(event, "anchor", None) is not None:
                raise InputError(
                    f"expected YAML without anchors and aliases, found {event.anchor!r} in line {line}; "
                    "write its value out"
                )
            if getattr(event, "tag", None) is not None:
                raise InputError(f"expected YAML without tags, found {event.tag!r} in line {line}")
            if depth > MAX_DEPTH:
                raise InputError(f"expected at most {MAX_DEPTH} levels, found more in line {line}")
        return get_loader("yaml")(text)
    except InputError:
        raise
    except Exception as error:  # YAML's constructors raise nearly anything
        raise InputError(f"expected YAML, found: {printable(' '.join(str(error).split()))}") from None


def read_yaml(file: Any) -> Any:
    """Read a small YAML file, given as a path or as what the package ships.

    Raises InputError naming the file, if it is larger than `MAX_BYTES`, no UTF-8 or no plain YAML.
    """
    with file.open("rb") as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise InputError(f"{file}: expected YAML of at most {MAX_BYTES} bytes, found a larger file")
    try:
        return load_yaml(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: expected UTF-8, found: {error}") from None
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
