"""The commands that there are: made from the tables of formats and protocols, and the few beside them.

What a command does is imported when the commands are first asked for: ops and models take a moment.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from ikem_fast.cli.completion import Shell, completion_script
from ikem_fast.cli.index import read_index
from ikem_fast.errors import InputError

NAMED = 8  # files that are named one by one where many were written


@dataclass(frozen=True)
class Command:
    """One command: what it is for, an example, and what it runs.

    name: its one or two words.
    run: takes options by name, made from its parameters; or `settings` alone.
    settings: a dataclass whose fields are the options; `--config` fills it from a section of a file.
    section: that section's name.
    words: the option that words without an option are for.
    former: names that options had → what they are called now; both are taken, until the next minor version.
    common: dataclasses whose fields are options too, where `run` has none of the name.
    within: makes of an object of each the context that `run` runs in.
    """

    name: str
    summary: str
    example: str
    run: Callable[..., Any]
    settings: type | None = None
    section: str | None = None
    words: str | None = None
    former: Mapping[str, str] = field(default_factory=dict)
    common: tuple[type, ...] = ()
    within: Callable[..., AbstractContextManager] | None = None


@dataclass
class WriteConfig:
    """Settings of writing a prepared dataset in another form.

    Args:
        data: Folder of the prepared dataset.
        out: Folder to write; files of the same names in it are replaced.
    """

    data: Path
    out: Path


@cache
def all_commands() -> dict[str, Command]:
    """List every command by name, in the order of the overview."""
    from ikem_fast.cli.layouts import layouts
    from ikem_fast.demo import demo
    from ikem_fast.doctor import doctor
    from ikem_fast.report import report
    from ikem_fast.view import view

    commands = [
        Command(
            "demo",
            "Show everything on simulated people, in minutes: prepare, pretrain, distil, evaluate.",
            "ikem-fast demo --out runs/demo",
            demo,
        ),
        *_prepare(),
        *_write(),
        Command(
            "layouts",
            "List the joint layouts, or check one of your own and draw it.",
            "ikem-fast layouts --check chair.yaml --out chair.png",
            layouts,
        ),
        *_train(),
        *_evaluate(),
        Command(
            "compare",
            "Show evaluations of runs side by side: seeds together, with a paired test.",
            "ikem-fast compare runs/six runs/three --markdown",
            _compare,
            words="runs",
        ),
        *_predict(),
        Command(
            "completion",
            "Print a script that teaches a shell the commands and options.",
            "ikem-fast completion bash",
            _completion,
            words="shell",
        ),
        Command(
            "report",
            "Write what a run did and what came of it as one page, which needs no network.",
            "ikem-fast report runs/seed0 runs/seed1 --out report.html",
            report,
            words="runs",
        ),
        Command(
            "view",
            "Show a clip's six modalities, or augmented views of it: page, GIF, film or strip.",
            "ikem-fast view data/synthetic --index 3 --out clip.gif",
            view,
            words="clips",
        ),
        Command(
            "doctor",
            "Say what is installed, which fused ops are active here, and why others are not.",
            "ikem-fast doctor",
            doctor,
        ),
    ]
    return {command.name: command for command in commands}


def _prepare():
    """A command for each format, and one for a format that is to be found out."""
    from ikem_fast.data.formats import FORMATS
    from ikem_fast.data.preparation import Preparation, Preprocessing, Rules, preparing

    def as_chosen(preprocessing, rules):
        return preparing(Preparation(preprocessing, rules))

    chosen = {"common": (Preprocessing, Rules), "within": as_chosen}
    return [
        *(
            Command(f"prepare {one.name}", one.summary, one.example, one.prepare, former=one.former, **chosen)
            for one in FORMATS.values()
        ),
        Command(
            "prepare auto",
            "Find out which format a path holds, say why, and prepare that.",
            "ikem-fast prepare auto --source downloads/NTU60_CS.npz --out data/ntu60",
            _prepare_auto,
            **chosen,
        ),
    ]


def _prepare_auto(out: Path, source: Path) -> None:
    """Find out which format a path holds, say why, and prepare that.

    Args:
        out: Folder to write.
        source: File, folder or archive. The options of the format that it turns out to hold may follow.
    """
    from ikem_fast.data.formats import find_format

    find_format(source)[0].prepare(out=out, source=source)


def _write():
    """A command for each format that can be written."""
    from ikem_fast.data.formats import FORMATS

    return [
        Command(
            f"write {one.name}",
            f"Write a prepared dataset in the form that {one.name} names.",
            f"ikem-fast write {one.name} --data data/ntu60 --out {one.name}",
            partial(_write_dataset, one),
            WriteConfig,
        )
        for one in FORMATS.values()
        if one.write
    ]


def _write_dataset(chosen, config):
    from ikem_fast.data import open_dataset

    config.out.mkdir(parents=True, exist_ok=True)
    files = chosen.write(open_dataset(config.data), config.out)
    for file in files[:NAMED]:
        print(file)
    if len(files) > NAMED:
        print(f"and {len(files) - NAMED} more in {config.out}")


def _train():
    from ikem_fast.train import DistillConfig, PretrainConfig, distill, pretrain

    return [
        Command(
            "pretrain",
            "Pretrain encoders without labels, both phases.",
            "ikem-fast pretrain --config ntu60_xsub --data data/ntu60 --out runs/teacher",
            pretrain,
            PretrainConfig,
            "pretrain",
        ),
        Command(
            "distill",
            "Distil a pretrained model into students of fewer modalities.",
            "ikem-fast distill --config ntu60_xsub --data data/ntu60 --teacher runs/teacher --out runs/half",
            distill,
            DistillConfig,
            "distill",
        ),
    ]


def _evaluate():
    """A command for each protocol."""
    from ikem_fast.evaluate import PROTOCOLS

    return [
        Command(
            f"evaluate {name}",
            protocol.summary,
            protocol.example,
            partial(_run_protocol, protocol),
            protocol.settings,
            name,
            protocol.words,
        )
        for name, protocol in PROTOCOLS.items()
    ]


def _completion(shell: tuple[Shell, ...]) -> None:
    """Print a script that teaches a shell the commands and options.

    Args:
        shell: bash, zsh or fish; put the script where that shell reads it when it starts.
    """
    if len(shell) != 1:
        raise InputError(f"shell: expected one of bash, zsh, fish, found {len(shell)} of them")
    sys.stdout.write(completion_script(shell[0], read_index()))


def _predict():
    from ikem_fast.cli.predict import export, predict

    return [
        Command(
            "predict",
            "Say which actions clips show: files of any format, folders, a stream of frames.",
            "ikem-fast predict raw/ --model runs/teacher --json",
            predict,
            words="clips",
        ),
        Command(
            "export",
            "Write a model as one file for another runtime: raw joints in, probabilities out.",
            "ikem-fast export --model runs/student --format onnx --out student.onnx",
            export,
        ),
    ]


def _run_protocol(protocol, config):
    """Evaluate, with the table on the terminal and what it warns of behind it."""
    from rich.console import Console

    from ikem_fast.evaluate import result_table

    results = protocol.run(config)
    Console().print(result_table(results))
    for warning in results.warnings:
        sys.stderr.write(f"ikem-fast: warning: the probe of {warning}; its accuracy is not the features'\n")
    left = [path for file in protocol.files if (path := Path(config.out) / file).exists()]
    sys.stdout.write("".join(f"{path}\n" for path in left))


def _compare(
    runs: tuple[Path, ...], folds: bool = False, markdown: bool = False, html: Path | None = None
) -> None:
    """Show the evaluations that are found in folders side by side.

    Args:
        runs: Folders of runs, or results files. Evaluations that differ in nothing but the seed are one
            column; each is tested against the first of the same evaluation.
        folds: Whether the folds of a cross-validation, which differ in their clips, are one column too.
        markdown: Whether to write Markdown.
        html: A page to write, in one file that needs no network, with bars and the classes that differ.
    """
    from rich.console import Console

    from ikem_fast.evaluate import (
        comparison_markdown,
        comparison_page,
        comparison_rows,
        comparison_table,
        find_groups,
        paired_test,
    )
    from ikem_fast.files import write_text

    groups = find_groups(runs, folds=folds)
    columns = {group.label: [results for _, results in group.runs] for group in groups}
    test = lambda first, column, name: paired_test(groups[first], groups[column], name)  # noqa: E731
    rows = comparison_rows(columns, test)
    if html is not None:
        html.parent.mkdir(parents=True, exist_ok=True)
        write_text(html, comparison_page(columns, test))
    if markdown:
        sys.stdout.write(comparison_markdown(rows))
    else:
        Console().print(comparison_table(rows))
