"""The command line, its options made from the settings and functions that do the work.

A command's code is imported when the command is used. Wrong usage and unusable input are one message and
exit status 2; `--debug` shows the traceback.
"""

import json
import re
import sys
from dataclasses import dataclass, is_dataclass
from importlib import import_module
from typing import get_type_hints

from ikem_fast import __version__
from ikem_fast.configs import read_section, shipped_configs
from ikem_fast.errors import InputError


@dataclass(frozen=True)
class Command:
    """One command: what it is for, an example, and where its code is.

    run: "module:function". Options are the function's parameters, or the fields of `settings`.
    settings: "module:dataclass", the function's only argument; `--config` fills it from a section of a file.
    section: that section's name.
    """

    summary: str
    example: str
    run: str
    settings: str | None = None
    section: str | None = None


COMMANDS = {
    "demo": Command(
        "Everything on simulated people, in minutes: prepare, pretrain, distil, evaluate.",
        "ikem-fast demo --out runs/demo",
        "ikem_fast.demo:demo",
    ),
    "prepare ntu": Command(
        "Prepare NTU RGB+D (120) from .skeleton files.",
        "ikem-fast prepare ntu --skeletons raw/ --protocol ntu60-xsub --out data/ntu60",
        "ikem_fast.data.prepare:prepare_ntu",
    ),
    "prepare utd-mhad": Command(
        "Prepare UTD-MHAD from its .mat files.",
        "ikem-fast prepare utd-mhad --skeletons Skeleton.zip --out data/utd_mhad",
        "ikem_fast.data.prepare:prepare_utd_mhad",
    ),
    "prepare nw-ucla": Command(
        "Prepare NW-UCLA from one .json a clip.",
        "ikem-fast prepare nw-ucla --skeletons all_sqe --out data/nw_ucla",
        "ikem_fast.data.prepare:prepare_nw_ucla",
    ),
    "prepare npz": Command(
        "Prepare clips packed into one .npz file.",
        "ikem-fast prepare npz --file utd_mhad.npz --layout utd-mhad --train subject=1,3,5,7 --out data/utd",
        "ikem_fast.data.prepare:prepare_npz",
    ),
    "prepare synthetic": Command(
        "Prepare simulated people; no download.",
        "ikem-fast prepare synthetic --out data/synthetic",
        "ikem_fast.data.prepare:prepare_synthetic",
    ),
    "pretrain": Command(
        "Pretrain encoders without labels, both phases.",
        "ikem-fast pretrain --config ntu60_xsub --data data/ntu60 --out runs/teacher",
        "ikem_fast.train.pretrain:pretrain",
        "ikem_fast.train.config:PretrainConfig",
        "pretrain",
    ),
    "distill": Command(
        "Distil a pretrained model into students of fewer modalities.",
        "ikem-fast distill --config ntu60_xsub --data data/ntu60 --teacher runs/teacher --out runs/student",
        "ikem_fast.train.distill:distill",
        "ikem_fast.train.config:DistillConfig",
        "distill",
    ),
    "evaluate linear": Command(
        "Train a linear classifier on frozen features: accuracy, confusion, picture.",
        "ikem-fast evaluate linear --data data/ntu60 --checkpoint runs/teacher --out runs/teacher/linear",
        "ikem_fast.cli:evaluate_linear",
        "ikem_fast.evaluate.linear:LinearConfig",
        "linear",
    ),
    "evaluate knn": Command(
        "Let the nearest training clips vote, by frozen features: accuracy, confusion.",
        "ikem-fast evaluate knn --data data/ntu60 --checkpoint runs/teacher --out runs/teacher/knn",
        "ikem_fast.cli:evaluate_knn",
        "ikem_fast.evaluate.knn:KnnConfig",
        "knn",
    ),
    "doctor": Command(
        "Say what is installed, which fused ops are active here, and why others are not.",
        "ikem-fast doctor",
        "ikem_fast.doctor:doctor",
    ),
}


def main(argv=None):
    """Run one command; the exit status (0, 1 if a check failed, 2 for unusable input, 130 if stopped)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    if debug:
        argv.remove("--debug")
    try:
        return _dispatch(argv)
    except InputError as error:
        if debug:
            raise
        print(f"ikem-fast: {error}", file=sys.stderr)
        return 2
    except (OSError, MemoryError) as error:
        if debug:
            raise
        print(f"ikem-fast: {error or 'not enough memory'}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ikem-fast: stopped; what was finished is kept", file=sys.stderr)
        return 130


def _dispatch(argv):
    words = [word for word in argv[:2] if not word.startswith("-")]
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return _run(name, argv[len(name.split()) :])
    if argv[:1] == ["--version"]:
        print(f"ikem-fast {__version__}")
        return 0
    group = words[0] if words and any(name.startswith(words[0] + " ") for name in COMMANDS) else ""
    known = [name for name in COMMANDS if name.startswith(f"{group} " if group else "")]
    if (words == [group] or not words) and ("--help" in argv or "-h" in argv):
        print(_overview(known))
        return 0
    found = " ".join(words) or "nothing"
    raise InputError(f"expected a command ({', '.join(known)}), found {found!r}; see ikem-fast --help")


def _overview(names):
    width = max(map(len, names))
    lines = [f"  {name:{width}}  {COMMANDS[name].summary}" for name in names]
    return "\n".join([
        "usage: ikem-fast COMMAND [options]        (or: python -m ikem_fast COMMAND [options])",
        "", *lines, "",
        "ikem-fast COMMAND --help has the options and an example; --debug shows tracebacks.",
    ])  # fmt: skip


def _run(name, argv):
    command = COMMANDS[name]
    run = _named(command.run)
    settings = _named(command.settings) if command.settings else run
    parser = _parser(name, command, settings)
    namespace = parser.parse_args(_normalised(argv, settings))
    options = {key: value for key, value in parser.instantiate(namespace).items() if key != "config"}
    result = run(settings(**options)) if command.settings else run(**options)
    return result if isinstance(result, int) else 0


def _named(path):
    module, name = path.split(":")
    return getattr(import_module(module), name)


def _parser(name, command, settings):
    from jsonargparse import ActionConfigFile, ArgumentParser

    class Parser(ArgumentParser):
        def format_help(self):
            return re.sub(r"--[a-z_.]+", lambda option: option[0].replace("_", "-"), super().format_help())

        def error(self, message, ex=None):
            raise InputError(f"{name}: {' '.join(message.split())}; see ikem-fast {name} --help") from ex

    class Section(ActionConfigFile):
        """--config: the command's own section of a file, or of a configuration that the package ships."""

        @staticmethod
        def apply_config(parser, cfg, dest, value):
            ActionConfigFile.apply_config(parser, cfg, dest, json.dumps(read_section(value, command.section)))

    parser = Parser(
        prog=f"ikem-fast {name}",
        description=command.summary,
        epilog=f"example: {command.example}",
        allow_abbrev=False,
    )
    if command.section:
        shipped = ", ".join(sorted(shipped_configs()))
        parser.add_argument(
            "--config",
            action=Section,
            help=f"YAML file with a section '{command.section}', or one of: {shipped}",
        )
    if is_dataclass(settings):
        parser.add_class_arguments(settings, as_group=False)
    else:
        parser.add_function_arguments(settings, as_group=False)
    return parser


def _normalised(argv, settings):
    """`--skip-list` is `--skip_list`, and `--resume` alone means `--resume true`."""
    flags = {f"--{name}" for name, kind in get_type_hints(settings).items() if kind is bool}
    argv = [_underscored(word) for word in argv]
    following = [*argv[1:], "--"][: len(argv)]
    return [
        part
        for word, after in zip(argv, following, strict=True)
        for part in ([word, "true"] if word in flags and after.startswith("--") else [word])
    ]


def _underscored(word):
    if not word.startswith("--"):
        return word
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def evaluate_linear(config):
    """Linear evaluation with its table on the terminal."""
    from ikem_fast.evaluate.linear import PICTURE, RESULTS, evaluate_linear

    _show(evaluate_linear(config), config.out / RESULTS, config.out / PICTURE)


def evaluate_knn(config):
    """Evaluation by nearest neighbours with its table on the terminal."""
    from ikem_fast.evaluate.knn import RESULTS, evaluate_knn

    _show(evaluate_knn(config), config.out / RESULTS)


def _show(report, *files):
    from rich.console import Console

    from ikem_fast.evaluate.report import result_table

    Console().print(result_table(report))
    print(*files, sep="\n")
