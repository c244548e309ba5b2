"""What `ikem-fast predict` and `ikem-fast export` do: they ask a bundle, and show what it says."""

import json as json_
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Annotated

from ikem_fast.data.preprocess import Skipped
from ikem_fast.errors import InputError, printable
from ikem_fast.evaluate.render import set_label
from ikem_fast.predict import Bundle, load
from ikem_fast.predict.bundle import Answer
from ikem_fast.predict.export import Exported, Target
from ikem_fast.predict.stream import MAX_LINE, MAX_WINDOW, windows
from ikem_fast.progress import is_quiet
from ikem_fast.settings import Allowed

STANDARD_INPUT = Path("-")
NAME = 40  # characters of a clip's name that stay on a line


def predict(
    clips: tuple[Path, ...],
    model: Path,
    format: str | None = None,
    layout: str | None = None,
    set: str | None = None,
    window: Annotated[int, Allowed(least=1, most=MAX_WINDOW)] = 60,
    stride: Annotated[int, Allowed(least=1, most=MAX_WINDOW)] = 15,
    top: Annotated[int, Allowed(least=1)] = 3,
    json: bool = False,
    device: str = "auto",
) -> int:
    """Say which actions clips show, with probabilities.

    Args:
        clips: Files, folders or .zip archives; - for a stream of frames on standard input, a JSON line each.
        model: Folder of a bundle, of an evaluation or of a run.
        format: Format of the files, such as ntu; left out, it is found out.
        layout: Layout of the clips' joints, where it is not the model's.
        set: The set of modalities that answers, such as joint+motion+bone; left out, that of most.
        window: Frames of a stream that are answered for together.
        stride: Frames of a stream from one answer to the next.
        top: How many classes are shown, likeliest first.
        json: Whether to write a JSON line for each clip, in place of a table; a stream has them anyway.
        device: Where to compute: cpu, cuda, cuda:1, …; auto takes a GPU where there is one.

    Returns:
        Exit status: 0, or 1 if some clip could not be read.
    """
    bundle = load(model).to(device)
    of = bundle.answering(set)
    if not is_quiet():
        sys.stderr.write(f"ikem-fast: model: {_known_by(bundle, of)}\n")
    if STANDARD_INPUT in clips:
        if len(clips) > 1:
            raise InputError(f"clips: expected - alone, found {len(clips) - 1} others beside it")
        return _stream(bundle, of, layout, window, stride, top)
    answers = bundle.predict_each(clips, of=of, layout=layout, format=format)
    found = list(_lines(bundle, answers, top)) if json else _table(bundle, answers, top)
    left_out = [answer for answer in found if answer.reason is not None]
    for answer in left_out:
        sys.stderr.write(f"ikem-fast: {answer.name}: {answer.reason}\n")
    return 1 if left_out else 0


def _known_by(bundle, of):
    results = bundle.description.results
    accuracy = results.get("sets", {}).get(of, {}).get("top1")
    figure = f", {accuracy:.1f} % of test clips" if isinstance(accuracy, float) else ""
    return f"{bundle.folder}: {set_label(of)} on {printable(bundle.description.dataset)}{figure}"


def _likeliest(bundle: Bundle, answer: Answer, top: int) -> dict[str, float]:
    """Class → probability of the likeliest ones, in order."""
    order = (-answer.probabilities).argsort(kind="stable")[:top]
    return {bundle.classes[i]: round(float(answer.probabilities[i]), 6) for i in order}


def _lines(bundle: Bundle, answers: Iterable[Answer], top: int) -> Iterator[Answer]:
    """Write a JSON line for each answer as it comes, and pass it on."""
    for answer in answers:
        _write_line(bundle, {"clip": answer.name}, answer, top)
        yield answer


def _write_line(bundle, where, answer, top):
    if answer.reason is not None:
        line = {**where, "label": None, "reason": answer.reason}
    else:
        found = _likeliest(bundle, answer, top)
        label = next(iter(found))
        line = {**where, "label": label, "probability": found[label], "probabilities": found}
    sys.stdout.write(json_.dumps(line, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _table(bundle, answers, top):
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ikem_fast.progress import progress_bar

    found = []
    with progress_bar() as bar:
        task = bar.add_task("predicting", total=None, status="")
        for answer in answers:
            found.append(answer)
            bar.update(task, completed=len(found))
    told = [answer for answer in found if answer.reason is None]
    folder = _folder_of([answer.name for answer in told])
    names = [answer.name[len(folder) :] for answer in told]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("clip", overflow="fold", min_width=min(max(map(len, names), default=0), NAME))
    for column in ("action", "probability", *(["then"] if top > 1 else [])):
        table.add_column(column, overflow="fold")
    for answer, name in zip(told, names, strict=True):
        (label, share), *rest = _likeliest(bundle, answer, top).items()
        then = ", ".join(f"{other} {100 * part:.0f} %" for other, part in rest)
        table.add_row(Text(name), Text(label), f"{100 * share:.1f} %", *([Text(then)] if rest else []))
    if folder:
        sys.stdout.write(f"clips in {folder}\n")
    if table.row_count:
        Console().print(table)
    return found


def _folder_of(names):
    """The folder that all clips are in, with its slash; "" where there is none."""
    levels = zip(*(name.split("/")[:-1] for name in names), strict=False)
    return "".join(f"{parts[0]}/" for parts in takewhile(lambda parts: len({*parts}) == 1, levels))


def _stream(bundle, of, layout, window, stride, top):
    """A JSON line for each window, as soon as its last frame has come."""
    layout_of_clips = bundle.layout(layout)
    lines = iter(partial(sys.stdin.readline, MAX_LINE + 2), "")
    bodies, bad = bundle.description.bodies, 0
    for one in windows(lines, joints=layout_of_clips.num_joints, bodies=bodies, length=window, stride=stride):
        if isinstance(one, Skipped):
            bad += 1
            sys.stderr.write(f"ikem-fast: standard input: {one.reason}\n")
            continue
        (answer,) = bundle.answer([("", one.clip)], of=of, layout=layout_of_clips)
        _write_line(bundle, {"first": one.first, "last": one.last}, answer, top)
    return 1 if bad else 0


def export(model: Path, out: Path, format: Target = "onnx", set: str | None = None) -> None:
    """Write a model as one file for another runtime: raw joints go in, probabilities come out.

    The file is held to the model's own probabilities, and timed beside it, before it is there.

    Args:
        model: Folder of a bundle, of an evaluation or of a run.
        out: The file to write.
        format: An ONNX file, for onnxruntime and its like, or a program of torch.export.
        set: The set of modalities that answers, such as joint+motion+bone; left out, that of most.
    """
    from ikem_fast.predict.export import export

    bundle = load(model)
    sys.stdout.write(f"model: {_known_by(bundle, bundle.answering(set))}\n")
    sys.stdout.flush()
    if not is_quiet():
        sys.stderr.write("ikem-fast: tracing and converting, up to one and a half minutes of a core\n")
    _show(export(bundle, out, format, set), format)


def _show(exported: Exported, format: str) -> None:
    runtime = {"onnx": "onnxruntime", "torch-export": "torch.export"}[format]
    sys.stdout.write(
        f"{exported.path}: {exported.size / 1e6:.1f} MB; probabilities of {exported.clips} clips differ by "
        f"at most {exported.difference:.1g} from the model's\n"
    )
    for count, (file, own) in exported.milliseconds.items():
        clips = "clip " if count == 1 else "clips"
        sys.stdout.write(f"{count:4} {clips} on this CPU: {runtime} {file:.1f} ms, ikem-fast {own:.1f} ms\n")
