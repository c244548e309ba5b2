"""From planned clips to a prepared folder: read and preprocessed on all cores, written in order, reported.

`formats` says what the clips of a dataset are; how they become one is here.
"""

import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ikem_fast.data.dataset import Dataset
from ikem_fast.data.preparation import NUM_FRAMES, in_force, preparing
from ikem_fast.data.preprocess import Clip, RawClip, Skipped, preprocess_clips
from ikem_fast.data.report import IN_SKIP_LIST, check_share, report
from ikem_fast.data.sources import SourceFile
from ikem_fast.data.splits import Choosable, attributes_of_name
from ikem_fast.data.writer import DatasetWriter
from ikem_fast.errors import InputError
from ikem_fast.files import FULL, amount, free_space
from ikem_fast.progress import progress_bar
from ikem_fast.skeleton import Layout, find_layout

CHUNK = 32  # clips that a worker process takes, and that are preprocessed, at a time
CHUNK_BYTES = 1 << 24  # or fewer, where their raw coordinates are more than this
GRACE = 5.0  # seconds that worker processes have to end when told to, before they are killed


class PlannedClip(NamedTuple):
    """A clip to prepare: what it is called, where it goes, its class.

    skip: why it is left out without being read, if it is.
    subject: who was recorded; None if that is not known.
    attributes: what else is known that clips may be chosen by.
    """

    name: str
    split: str = ""
    label: int = 0
    skip: Skipped | None = None
    subject: str | None = None
    attributes: Mapping[str, str] = MappingProxyType({})


def to_clips(
    raws: Iterable[np.ndarray | RawClip | Clip | Skipped],
    layout: str | Layout,
    num_frames: int = NUM_FRAMES,
) -> Generator[Clip | Skipped]:
    """Preprocess a stream of raw clips as is chosen (`preparation`); `Clip` and `Skipped` stay what they are.

    num_frames: how many to resample to, where that is not chosen.
    """
    choice = in_force().preprocessing
    chunk, size = [], 0
    for raw in raws:
        if isinstance(raw, Clip) and choice.chosen():
            raise InputError(
                f"{', '.join(choice.chosen())}: expected raw clips to choose that for, found clips that have "
                "been preprocessed already"
            )
        chunk.append(raw)
        size += _bytes(raw)
        if len(chunk) == CHUNK or size > CHUNK_BYTES:
            yield from _chunk_to_clips(chunk, layout, num_frames, choice)
            chunk, size = [], 0
    yield from _chunk_to_clips(chunk, layout, num_frames, choice)


def _bytes(raw):
    raw = raw.coordinates if isinstance(raw, RawClip) else raw
    return raw.nbytes if isinstance(raw, np.ndarray) else 0


def _chunk_to_clips(chunk, layout, num_frames, choice):
    raws = [raw for raw in chunk if isinstance(raw, np.ndarray | RawClip)]
    clips = iter(preprocess_clips(raws, frames=num_frames, layout=layout, preprocessing=choice))
    for raw in chunk:
        yield next(clips) if isinstance(raw, np.ndarray | RawClip) else raw


def prepare_clips(
    plan: list[PlannedClip],
    results: Callable[[int], Generator[Clip | Skipped]],
    *,
    out: Path,
    name: str,
    layout: str | Layout,
    classes: Iterable[str],
    num_bodies: int,
    prepared: dict,
    num_frames: int = NUM_FRAMES,
) -> Dataset:
    """Write the planned clips, in order, to the folder `out`, and report.

    What is chosen (`preparation`) goes ahead of what the format says: sizes, layout, splits.

    results: given a number, yields what became of each clip from that one on; closed however this ends, so
        that what it started (worker processes) has ended, too.
    prepared: the settings that shape the outcome, kept in the dataset's description.

    Raises InputError if no clip is usable (then there is no folder), or most are not (then there is one).
    """
    choice, rules = in_force().preprocessing, in_force().rules
    num_frames = choice.frames or num_frames
    plan, results = _as_chosen(plan, results, rules, out)
    planned = [clip for clip in plan if clip.skip is None]
    known = bool(planned) and all(clip.subject is not None for clip in planned)
    with (
        DatasetWriter(
            out,
            name=name,
            layout=choice.layout(find_layout(layout)),
            classes=classes,
            num_frames=num_frames,
            num_bodies=choice.num_bodies or num_bodies,
            prepared={**prepared, **rules.given(), **choice.chosen(), "frames": num_frames},
            sources=[clip.name for clip in plan],
            name_length=max((len(clip.name) for clip in planned), default=1),
            subject_length=max(len(clip.subject) for clip in planned) if known else None,
        ) as writer,
        _naming_the_room(writer),
    ):
        _write(writer, plan, results, known)
        if not writer.complete and not writer.num_clips:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in writer.skipped[:3])
            writer.discard()
            told = f" among {len(plan)}: {reasons}" if plan else ""
            raise InputError(f"{out}: expected usable clips, found none{told}")
        dataset = writer.finish()
    report(dataset)
    check_share(dataset)
    return dataset


@contextmanager
def _naming_the_room(writer):
    """Say how much a disk needs and has: ahead, where that may not do, and where it did not."""
    free = free_space(writer.folder)
    if not writer.complete and free < writer.size_of_rest:
        sys.stderr.write(
            f"warning: up to {amount(writer.size_of_rest)} are needed for the clips, {amount(free)} are free "
            f"at {writer.folder}\n"
        )
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise OSError(
            error.errno,
            f"{error.strerror}: up to {amount(writer.size_of_rest)} more are needed, "
            f"{amount(free_space(writer.folder))} are free; make room there, and type the same to go on",
            str(writer.folder),
        ) from error


def _write(writer, plan, results, known):
    start = writer.done
    with progress_bar() as bar, closing(results(start)) as outcomes:
        task = bar.add_task("preparing", total=len(plan), completed=start, status="")
        for clip, result in zip(plan[start:], outcomes, strict=True):
            if isinstance(result, Skipped):
                writer.skip(clip.name, result.reason)
            else:
                subject = clip.subject if known else None
                writer.add(clip.split, result.coordinates, result.frames, clip.label, clip.name, subject)
            bar.advance(task)


def _as_chosen(plan, results, rules, out):
    """The plan with the splits that are chosen, without the clips that are in none, and their results."""
    if not rules.given():
        return plan, results
    planned = [place for place, clip in enumerate(plan) if clip.skip is None]
    said = [{**attributes_of_name(plan[place].name), **plan[place].attributes} for place in planned]
    attributes = {
        name: [one.get(name, "") for one in said] for name in dict.fromkeys(chain.from_iterable(said))
    }
    if all(plan[place].subject is not None for place in planned):
        attributes["subject"] = [plan[place].subject for place in planned]
    names, labels = ([getattr(plan[place], part) for place in planned] for part in ("name", "label"))
    splits = Choosable(names, labels, attributes, str(out)).splits(rules.train, rules.test)
    by_place = dict(zip(planned, splits, strict=True))
    kept = [place for place in range(len(plan)) if by_place.get(place, "skipped")]

    def results_of_kept(start):
        first = kept[start] if start < len(kept) else len(plan)
        with closing(results(first)) as outcomes:
            for place, result in zip(range(first, len(plan)), outcomes, strict=True):
                if by_place.get(place, "skipped"):
                    yield result

    return [plan[place]._replace(split=by_place.get(place, "")) for place in kept], results_of_kept


def prepare_files(
    files: list[SourceFile],
    plan_file: Callable[[SourceFile], PlannedClip],
    parse: Callable[[bytes], np.ndarray],
    *,
    limit: int,
    workers: int | None,
    layout: str | Layout,
    prepared: dict,
    **description: object,
) -> Dataset:
    """Prepare a dataset of one clip a file, read by worker processes; see `prepare_clips`.

    parse: from a file's bytes to a raw clip (3, F, V, M); raises ValueError. Must be picklable.
    limit: bytes above which a file is left out.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers: expected at least 1, found {workers}")
    plan = _plan_files(files, plan_file)

    def results(start):
        tasks = [clip.skip or file for clip, file in zip(plan[start:], files[start:], strict=True)]
        load = partial(_load, parse=parse, limit=limit, layout=layout, preparation=in_force())
        return _in_parallel(load, tasks, workers)

    prepared = {**prepared, "bytes": sum(file.size for file in files)}
    return prepare_clips(plan, results, layout=layout, prepared=prepared, **description)


def _plan_files(files, plan_file):
    plan, names = [], set()
    for file in files:
        clip = plan_file(file)
        if clip.skip is None and clip.name in names:
            clip = clip._replace(name=str(file), skip=Skipped(f"another file is called {clip.name}, too"))
        names.add(clip.name)
        plan.append(clip)
    if all(clip.skip is not None and clip.skip != IN_SKIP_LIST for clip in plan):
        raise InputError(
            f"{plan[0].name}: {plan[0].skip.reason}; none of the {len(plan)} files there is such a clip"
        )
    return plan


def _load(tasks, parse, limit, layout, preparation) -> Iterator[Clip | Skipped]:
    """Read and preprocess files, as was chosen where they were planned; what is `Skipped` stays that."""

    def raw(task):
        try:
            return task if isinstance(task, Skipped) else parse(task.read(limit))
        except (ValueError, MemoryError) as error:
            return Skipped.of(error) if str(error) else Skipped("takes more memory than there is")

    with preparing(preparation):
        return iter(list(to_clips(map(raw, tasks), layout)))


def _in_parallel(function, tasks, workers) -> Generator:
    """Yield what `function` yields for chunks of tasks, on worker processes, in order.

    Chunks of tasks are dealt out in turn. Each worker has a pipe of its own and waits until its last chunk
    was taken from it: little is in memory at a time, and a worker that dies, wherever it was, ends its pipe.
    """
    chunks = [tasks[start : start + CHUNK] for start in range(0, len(tasks), CHUNK)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(workers or cores, len(chunks))
    if workers <= 1:
        yield from chain.from_iterable(map(function, chunks))
        return
    context = get_context("spawn")
    crew = []
    try:
        for first in range(workers):
            receiver, sender = context.Pipe(duplex=False)
            share = chunks[first::workers]
            crew.append(
                (context.Process(target=_work, args=(function, share, sender), daemon=True), receiver)
            )
            crew[-1][0].start()
            sender.close()
        for index in range(len(chunks)):
            results = crew[index % workers][1].recv()
            if isinstance(results, Exception):
                raise results
            yield from results
    except (EOFError, OSError):
        raise InputError(
            "a worker process died (was the memory used up?); start the command again to go on, "
            "with fewer workers"
        ) from None
    finally:
        for _, receiver in crew:
            receiver.close()
        _end([process for process, _ in crew if process.pid is not None])


def _end(processes):
    """Return when all have ended: told to, and killed if they do not."""
    for process in processes:
        process.terminate()
    deadline = monotonic() + GRACE
    for process in processes:
        process.join(max(deadline - monotonic(), 0))
        if process.exitcode is None:
            process.kill()
            process.join()
        process.close()


def _work(function, chunks, sender):
    """What a worker process does: send the results of each chunk, or what went wrong."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    try:
        for chunk in chunks:
            sender.send(list(function(chunk)))
    except BrokenPipeError:
        pass  # the parent is gone
    except Exception as error:
        sender.send(error)
