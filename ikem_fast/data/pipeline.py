"""From planned clips to a prepared folder: read and preprocessed on all cores, written in order, reported.

`prepare.py` says what the clips of a dataset are; how they become one is here.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from ikem_fast.data.dataset import Dataset, DatasetWriter
from ikem_fast.data.preprocess import NUM_FRAMES, preprocess_clips
from ikem_fast.data.sources import SourceFile
from ikem_fast.errors import InputError
from ikem_fast.progress import progress_bar

CHUNK = 32  # clips that a worker process takes, and that are preprocessed, at a time
CHUNK_BYTES = 1 << 24  # or fewer, where their raw coordinates are more than this
IN_SKIP_LIST = "in the skip list"


@dataclass(frozen=True)
class PlannedClip:
    """A clip to prepare: what it is called, where it goes, its class.

    skip: why it is left out without being read, if it is.
    """

    name: str
    split: str
    label: int
    skip: str | None = None


def preprocess(raws, layout, num_frames=NUM_FRAMES) -> Iterator:
    """For each raw clip (clip (3, T, V, M), true frame count), or the reason why there is none.

    raws: raw clips; a reason why there is none stays that.
    """
    chunk, size = [], 0
    for raw in raws:
        chunk.append(raw)
        size += 0 if isinstance(raw, str) else raw.nbytes
        if len(chunk) == CHUNK or size > CHUNK_BYTES:
            yield from _preprocess_chunk(chunk, layout, num_frames)
            chunk, size = [], 0
    yield from _preprocess_chunk(chunk, layout, num_frames)


def _preprocess_chunk(chunk, layout, num_frames):
    clips = iter(
        preprocess_clips((raw for raw in chunk if not isinstance(raw, str)), frames=num_frames, layout=layout)
    )
    for raw in chunk:
        result = raw if isinstance(raw, str) else next(clips)
        yield str(result).removeprefix("raw: ") if isinstance(result, ValueError) else result


def prepare_clips(
    plan: list[PlannedClip],
    results: Callable[[int], Iterable],
    *,
    out: Path,
    name: str,
    layout: str,
    classes: Iterable[str],
    num_bodies: int,
    prepared: dict,
    num_frames: int = NUM_FRAMES,
) -> Dataset:
    """Write the planned clips, in order, to the folder `out`, and report.

    results: given a number, yields what `preprocess` makes of each clip from that one on.
    prepared: the settings that shape the outcome, kept in the dataset's description.
    """
    with DatasetWriter(
        out,
        name=name,
        layout=layout,
        classes=classes,
        num_frames=num_frames,
        num_bodies=num_bodies,
        prepared={**prepared, "frames": num_frames},
        sources=[clip.name for clip in plan],
        name_length=max((len(clip.name) for clip in plan if clip.skip is None), default=1),
    ) as writer:
        start = writer.done
        with_bar = _with_progress(results(start), start, len(plan))
        for clip, result in zip(plan[start:], with_bar, strict=True):
            if isinstance(result, str):
                writer.skip(clip.name, result)
            else:
                writer.add(clip.split, result[0], result[1], clip.label, clip.name)
        dataset = writer.finish()
    _report(dataset)
    return dataset


def prepare_files(
    files: list[SourceFile],
    plan_file: Callable[[SourceFile], PlannedClip],
    parse: Callable[[bytes], np.ndarray],
    *,
    limit: int,
    workers: int | None,
    layout: str,
    prepared: dict,
    **description,
) -> Dataset:
    """The same for one clip a file, read by worker processes.

    parse: from a file's bytes to a raw clip (3, F, V, M); raises ValueError. Must be picklable.
    limit: bytes above which a file is left out.
    """
    if workers is not None and workers < 1:
        raise InputError(f"workers: expected at least 1, found {workers}")
    plan, names = [], set()
    for file in files:
        clip = plan_file(file)
        if clip.skip is None and clip.name in names:
            clip = replace(clip, name=str(file), skip=f"another file is called {clip.name}, too")
        names.add(clip.name)
        plan.append(clip)

    def results(start):
        tasks = [clip.skip or file for clip, file in zip(plan[start:], files[start:], strict=True)]
        return _in_parallel(partial(_load, parse=parse, limit=limit, layout=layout), tasks, workers)

    prepared = {**prepared, "bytes": sum(file.size for file in files)}
    return prepare_clips(plan, results, layout=layout, prepared=prepared, **description)


def _load(tasks, parse, limit, layout) -> Iterator:
    """What `preprocess` makes of files; a task that is a reason to skip one stays that."""

    def raw(task):
        try:
            return task if isinstance(task, str) else parse(task.read(limit))
        except ValueError as error:
            return str(error)

    return preprocess(map(raw, tasks), layout)


def _in_parallel(function, tasks, workers) -> Iterator:
    """What `function` yields for chunks of tasks, on worker processes, in order.

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
        for process, receiver in crew:
            receiver.close()
            if process.pid is not None:
                process.terminate()
                process.join()


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


def _with_progress(results, done, total) -> Iterator:
    with progress_bar() as bar:
        task = bar.add_task("preparing", total=total, completed=done, status="")
        for result in results:
            yield result
            bar.advance(task)


def _report(dataset):
    """Print the clips of each split, and those left out by name and reason (without the user's own list)."""
    counts = ", ".join(f"{len(split)} {name}" for name, split in dataset.splits.items())
    print(f"{dataset.folder}: {counts} clips of {len(dataset.classes)} classes")
    left_out = [(name, reason) for name, reason in dataset.skipped if reason != IN_SKIP_LIST]
    if len(left_out) < len(dataset.skipped):
        print(f"left out as listed: {len(dataset.skipped) - len(left_out)}")
    if left_out:
        print(f"left out as unusable: {len(left_out)}")
    for name, reason in left_out:
        print(f"  {name}: {reason}")
