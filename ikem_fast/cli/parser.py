"""From the words of a command line to a command's options, made from its settings or parameters."""

import json
import re
import sys
from dataclasses import fields, is_dataclass
from inspect import signature
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from ikem_fast.cli.commands import Command, all_commands
from ikem_fast.cli.help import choices_of, help_text
from ikem_fast.configs import read_section, shipped_configs
from ikem_fast.errors import InputError, printable
from ikem_fast.nn.config import upgraded
from ikem_fast.plain_yaml import load_yaml


def parse(command: Command, words: list[str]) -> dict[str, Any]:
    """Make a command's options of the words behind its name.

    A configuration's settings come first, wherever `--config` stands, and the other options on top of them in
    their order. `~` at the beginning of a path is the user's home.

    Raises InputError for options that are unknown, missing or of another type; SystemExit(0) for --help.

    Example:
        parse(all_commands()["pretrain"], ["--data", "data/ntu60", "--out", "~/runs/teacher"])
    """
    parser = _parser(command)
    if command.words:
        words = _gathered(words, command.words)
    namespace = parser.parse_args(_ordered(_spelled(words, command)))
    options = parser.instantiate(namespace)
    return {name: _expanded(name, value) for name, value in options.items() if name != "config"}


def described(command: Command) -> dict[str, Any]:
    """Return the help of a command, and its options with the names that may stand behind each.

    Example:
        described(all_commands()["export"])["options"]["--format"]  # ["onnx", "torch-export"]
    """
    parser = _parser(command)
    groups = set(_groups(command.settings or command.run))
    hidden = {"help", "print_config", *groups}  # jsonargparse would read files of settings; --config does
    actions = [action for action in parser._actions if action.dest not in hidden]
    return {"help": help_text(command, actions), "options": choices_of(command, actions)}


def build_index() -> dict[str, dict[str, Any]]:
    """Describe every command as `cli.index` keeps it, by what the command is made of."""
    return {
        name: {"summary": command.summary, **described(command)} for name, command in all_commands().items()
    }


def take_common(command: Command, kind: type, options: dict[str, Any]) -> Any:
    """Make an object of the options that a command shares with others, and take these from the options.

    Example:
        take_common(all_commands()["prepare ntu"], Preprocessing, options)
    """
    own = signature(command.run).parameters
    names = [entry.name for entry in fields(kind) if entry.name not in own]
    return kind(**{name: options.pop(name) for name in names})


def _parser(command):
    from jsonargparse import ActionConfigFile, ArgumentParser, set_loader

    set_loader("bounded yaml", load_yaml, exceptions=(InputError,))
    sections = {"synthetic", *(other.section for other in all_commands().values() if other.section)}

    class Parser(ArgumentParser):
        where = command.name  # what is being read: the command line, or a section of a file
        first = None  # what was wrong first; jsonargparse comes back with it in words of its own

        def error(self, message, ex=None):
            if self.first is None:
                text = printable(_plain(message, command), 1000)
                self.first = InputError(f"{self.where}: {text}; see ikem-fast {command.name} --help")
            raise self.first from ex

    class Section(ActionConfigFile):
        """--config: the command's own section of a file, or of a configuration that the package ships."""

        @staticmethod
        def apply_config(parser, cfg, dest, value):
            section = read_section(value, command.section, sorted(sections))
            if isinstance(section.get("model"), dict):
                section["model"] = upgraded(section["model"])
            parser.where = f"{value}: {command.section}"
            _refuse_unknown(parser.where, section, command.settings)
            ActionConfigFile.apply_config(parser, cfg, dest, json.dumps(section))
            parser.where = command.name

    parser = Parser(
        prog=f"ikem-fast {command.name}",
        description=command.summary,
        epilog=f"example: {command.example}",
        allow_abbrev=False,
        parser_mode="bounded yaml",
    )
    if command.section:
        shipped = ", ".join(sorted(shipped_configs()))
        parser.add_argument(
            "--config",
            action=Section,
            help=f"YAML file with a section '{command.section}', or one of: {shipped}. "
            "Other options come on top, wherever they stand.",
        )
    if command.settings:
        parser.add_class_arguments(command.settings, as_group=False)
    else:
        parser.add_function_arguments(command.run, as_group=False)
    for one in command.common:
        parser.add_class_arguments(one, as_group=False, skip=set(signature(command.run).parameters))
    return parser


def _groups(settings, prefix=""):
    """Dotted names of options that are settings again, at any depth."""
    for name, kind in get_type_hints(settings).items():
        if is_dataclass(kind):
            yield f"{prefix}{name}"
            yield from _groups(kind, f"{prefix}{name}.")


def _refuse_unknown(where, given, settings):
    """Raise InputError for a name in a file that is no setting, or a group of settings that is none."""
    known = {
        name: kind for name, kind in get_type_hints(settings).items() if get_origin(kind) is not ClassVar
    }
    for name, value in given.items():
        _refuse_former(where, name, settings)
        if name not in known:
            raise InputError(f"{where}: expected settings out of {', '.join(known)}, found {name!r}")
        if is_dataclass(known[name]):
            if not isinstance(value, dict):
                raise InputError(f"{where}: {name}: expected settings, found {value!r}")
            _refuse_unknown(f"{where}: {name}", value, known[name])


def _refuse_former(where, name, settings):
    """Raise InputError for a setting that there was, with what says the same now."""
    former = getattr(settings, "former", {})
    if name in former:
        raise InputError(f"{where}: {name} is no longer a setting; say {former[name]}")


def _spelled(words, command):
    """`--skip-list` is `--skip_list`, former names are present ones, `--resume` alone is `--resume true`."""
    hints = get_type_hints(command.settings or command.run)
    for one in command.common:
        hints = {**get_type_hints(one), **hints}
    flags = {f"--{name}" for name, kind in hints.items() if kind is bool or bool in get_args(kind)}
    groups = {f"--{name}" for name in _groups(command.settings or command.run)}
    words = [_renamed(_underscored(word), command) for word in words]
    spelled = []
    for word, after in zip(words, [*words[1:], "--"], strict=False):
        option = word.partition("=")[0]
        _refuse_former(command.name, option.removeprefix("--"), command.settings)
        if option in groups:
            raise InputError(
                f"{command.name}: expected one of its settings, {option}.NAME VALUE, found {word!r}; a file "
                "of settings is given with --config"
            )
        spelled += [word, "true"] if word in flags and after.startswith("--") else [word]
    return spelled


def _gathered(words, option):
    """`A B` in front of the options is `--option [A, B]`."""
    options = (i for i, word in enumerate(words) if word.startswith("-") and word != "-")
    count = next(options, len(words))
    return [f"--{option}={json.dumps(words[:count])}", *words[count:]] if count else words


def _underscored(word):
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    name = name.replace("-", "_")
    if name.startswith("model."):
        (name,) = (f"model.{present}" for present in upgraded({name.removeprefix("model."): value}))
    return f"--{name}{equals}{value}"


def _renamed(word, command):
    """An option by the name that it has now; one that it had is told of."""
    name, equals, value = word.removeprefix("--").partition("=")
    if not word.startswith("--") or name not in command.former:
        return word
    now = command.former[name]
    sys.stderr.write(f"ikem-fast: --{name} is called --{now} now, and goes in version 0.2\n")
    return f"--{now}{equals}{value}"


def _ordered(words):
    """`--config FILE` ahead of everything else: options come on top of it."""
    first, rest = [], []
    words = iter(words)
    for word in words:
        if word == "--config":
            first += [word, *([value] if (value := next(words, None)) is not None else [])]
        else:
            (first if word.startswith("--config=") else rest).append(word)
    return first + rest


def _expanded(name, value):
    if not isinstance(value, Path):
        return value
    try:
        return value.expanduser()
    except RuntimeError as error:
        raise InputError(f"{name}: {error} {str(value)!r}") from None


def _plain(message, command):
    """jsonargparse's message in the words of this package's."""
    message = " ".join(message.split())
    missing = re.fullmatch(r"the following arguments are required: ([\w, ]+)", message)
    if missing:
        hints = get_type_hints(command.settings or command.run)
        return (
            "expected " + ", ".join(_option(name, hints) for name in missing[1].split(", ")) + ", found none"
        )
    message = re.sub(r"Parser key ['\"]config['\"]: ", "", message)
    return re.sub(r"Parser key ['\"]([^'\"]+)['\"]:", r"\1:", message)


def _option(name, hints):
    """An option, and what it may be, where that is a few words."""
    kind = hints.get(name)
    choices = f" ({' | '.join(map(str, get_args(kind)))})" if get_origin(kind) is Literal else ""
    return f"--{name.replace('_', '-')}{choices}"
