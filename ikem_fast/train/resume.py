"""Going on from a checkpoint: what may have changed since, and what would make it another run."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ikem_fast.augment.named import completed
from ikem_fast.data import Dataset, Split
from ikem_fast.errors import InputError
from ikem_fast.nn.config import ModelConfig
from ikem_fast.runtime.checkpoint import NAME, earlier, fitting, load_checkpoint, plain
from ikem_fast.runtime.processes import Processes
from ikem_fast.runtime.rotation import newest_whole
from ikem_fast.train.config import FORMER, TrainConfig
from ikem_fast.train.optimizer import load_optimizer
from ikem_fast.train.step import Step
from ikem_fast.train.task import Task

# Where things lie, how far to go, what computes; everything else makes other numbers. Whether `data` and
# `teacher` are the same is seen from what is in them.
MAY_CHANGE = (
    "data", "out", "teacher", "device", "compile", "cuda_graph", "resume", "checkpoint_minutes",
    "checkpoint_steps", "keep_last", "keep_every", "keep_best", "nonfinite", "patience", "loggers",
)  # fmt: skip
BUDGET = ("epochs", "max_steps", "max_minutes")  # may change too, where no schedule depends on them
SAMPLED_CLIPS = 64


@dataclass(frozen=True)
class Standing:
    """Where a run goes on from.

    steps, seconds: done and used so far.
    newest: the step of `checkpoint.pt`, 0 where it is not there or damaged.
    unfinished: what was gathered between two lines of the log, see `save_checkpoint`.
    """

    steps: int = 0
    seconds: float = 0.0
    newest: int = 0
    unfinished: Mapping[str, Any] = field(default_factory=dict)


def go_on(
    task: Task,
    config: TrainConfig,
    dataset: Dataset,
    step: Step,
    steps_an_epoch: int,
    processes: Processes,
) -> Standing:
    """Load the checkpoint in `out` if the run is to go on from it. Returns where it then stands.

    Raises InputError where there is one and the run is not to go on, where it is damaged, or where it is
    another run's: of other settings, another dataset, another teacher, each named with both values.
    """
    out = Path(config.out)

    def read():
        found = _found(out, config.resume, task.kind)
        if found is not None:
            path, state, wrong = found
            _refuse_changes(path, state, config, dataset)
            task.check_resumed(state, path)
            for problem in wrong:
                sys.stderr.write(f"warning: {problem}; going on from {path}\n")
        return found

    found = processes.of_first(read)
    if found is None:
        return Standing()
    path, state, _ = found
    with fitting(path):
        task.model.load_state_dict(state["model"])
        load_optimizer(step.optimizer, state["optimizer"])
        # Version 1 counted whole epochs alone.
        steps = int(state.get("step", state["epoch"] * steps_an_epoch))
        newest = steps if path.name == NAME else 0
        return Standing(steps, float(state.get("seconds", 0.0)), newest, state.get("unfinished", {}))


def _found(out, resume, kind):
    """The checkpoint to go on from, see `newest_whole`; None where there is none."""
    path, before = out / NAME, earlier(out)
    if resume == "auto":
        return newest_whole(out, (kind,))
    if not path.exists() and not before:
        return None
    if not resume:
        raise InputError(f"{out}: expected no run there, found a checkpoint; go on with --resume true")
    if not path.exists():
        raise InputError(
            f"{path}: expected a checkpoint, found none, but {before[0]}; go on from that one with "
            "--resume auto"
        )
    return path, load_checkpoint(path, kinds=(kind,)), []


def described(dataset: Dataset) -> dict[str, Any]:
    """Describe the dataset that a run trains on, as its checkpoints name it."""
    train = dataset["train"]
    return {
        "name": dataset.name,
        "layout": dataset.layout,
        "skeleton": dataset.skeleton.tables(),
        "classes": list(dataset.classes),
        "clips": len(train),
        "shape": list(train.clips.shape[1:]),
        "fingerprint": fingerprint(train),
    }


def fingerprint(split: Split) -> str:
    """Digest what tells one split from another: every name, frame count and label, and a sample of clips."""
    digest = hashlib.sha256()
    for array in (split.names.astype(str), split.frames, split.labels):
        digest.update(repr((array.dtype.kind, array.shape)).encode())
        digest.update("\0".join(map(str, array.tolist())).encode("utf-8", "surrogatepass"))
    for place in np.unique(np.linspace(0, max(len(split) - 1, 0), SAMPLED_CLIPS, dtype=int))[: len(split)]:
        digest.update(np.ascontiguousarray(split.clips[place]).tobytes())
    return digest.hexdigest()


def _refuse_changes(path, state, config, dataset):
    changes = [*_changed_settings(state["config"], config), *_changed_data(state["dataset"], dataset)]
    if changes:
        raise InputError(
            f"{path}: expected the settings that the run was begun with, found other: {'; '.join(changes)}; "
            "give them as they were, or another --out"
        )


def _changed_settings(stored, config):
    """Of each setting that may not change and did: its name and both values."""
    stored = _in_present_words(stored)
    stored, present = _flat(stored), _flat(plain(asdict(config)))
    defaults = _flat(_in_present_words({f.name: _default(f) for f in fields(config)}))
    may_change = MAY_CHANGE if config.depends_on_budget() else MAY_CHANGE + BUDGET
    for name, value in present.items():
        before = stored.get(name, defaults.get(name))  # a later version's setting was then its default
        if name not in may_change and before != value:
            yield f"{name} was {before!r} and is {value!r}"


def _in_present_words(stored):
    """Settings that a version had under other names."""
    stored = dict(stored)
    if isinstance(stored.get("model"), dict):
        stored["model"] = plain(asdict(ModelConfig.of(stored["model"]).complete()))
    if FORMER.keys() <= stored.keys():
        amplitude, crops = (stored.pop(name) for name in FORMER)
        shear = [{"name": "shear", "amplitude": amplitude}] if amplitude else []
        stored["augmentations"] = [*shear, *([{"name": "crop"}] if crops else [])]
    for name in ("augmentations", "key_augmentations"):  # a setting that a version did not have: its default
        if stored.get(name) is not None:
            stored[name] = plain(completed(stored[name]))
    return stored


def _changed_data(stored, dataset):
    present = described(dataset)
    for name, value in present.items():
        if name == "name" and "fingerprint" in stored:
            continue  # what it is called does not matter where its content is known
        if stored.get(name, value) != value:
            yield f"the dataset's {name} was {_short(stored[name])} and is {_short(value)}"


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({len(value)} of them)"


def _flat(settings, prefix=""):
    """Nested settings by dotted name."""
    flat = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _default(entry):
    if entry.default is not MISSING:
        return plain(entry.default)
    return plain(asdict(entry.default_factory())) if entry.default_factory is not MISSING else None
