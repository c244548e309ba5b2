"""`--dry-run`: what a long command would take, by a few steps of it in a folder that goes again."""

import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ikem_fast.files import amount, free_space, require_space
from ikem_fast.runtime.checkpoint import NAME
from ikem_fast.settings import check, checked

STEPS = 3  # that are timed in each phase, after a first that warms up
CLIPS = 64  # of which features are timed


def dry_run(command: Any, options: Mapping[str, Any]) -> None:
    """Say how many steps a command takes, and how much memory and time, as far as this machine shows now.

    Each phase is trained for a few steps on the run's own data and settings, in a folder of its own; what is
    at `out` is not touched.

    Args:
        command: `demo`, `pretrain`, `distill` or `evaluate finetune`.
        options: its options by name.

    Raises what the command itself would raise at once: InputError for a dataset or setting that cannot be
    used.
    """
    if command.name == "demo":
        minutes = checked(_demo)(**options)
    elif command.name == "evaluate finetune":
        minutes = _finetune(command.settings(**options))
    else:
        minutes = _training(command.name, command.settings(**options))
    _tell(f"minutes: about {minutes:.1f}")
    _tell(f"memory: {_memory()}")


def _tell(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _training(name, config):
    """Tell of a training's phases; returns its minutes."""
    from ikem_fast.data import open_dataset

    check(config)
    clips = len(open_dataset(config.data)["train"])
    whole = config.leaves_out_last(clips)
    an_epoch = max(1, clips // config.batch_size if whole else -(-clips // config.batch_size))
    total = config.total_steps(an_epoch)
    _tell(f"{clips} training clips, {an_epoch} steps an epoch")
    minutes, largest = 0.0, 0
    for phase, steps, settings in _phases(name, config, an_epoch, total):
        seconds, size = _costs(name, config, settings)
        largest = max(largest, size)
        minutes += (steps or 0) * seconds / 60
        count = "as many steps as there are minutes for" if steps is None else f"{steps} steps"
        _tell(f"{phase}: {count}, {seconds:.2f} s each")
    _disk(config, largest)
    budget = config.max_minutes
    if total is None or (budget is not None and budget < minutes):
        _tell("the budget of minutes ends it")
        return budget
    return minutes


def _phases(name, config, an_epoch, total):
    """(name, steps or None, settings that have it from the first step on)."""
    if name != "pretrain":
        return [("distillation", total, {})]
    start = config.exchange_from
    alone = {"exchange_from": None}
    if start is None or config.method == "skeletonclr":
        return [("phase 1", total, alone)]
    both = {"exchange_from": 1}
    if total is None:
        return [("phase 1", None, alone), ("phase 2", None, both)]
    before = min(total, int(start * total) if start < 1 else int(start - 1) * an_epoch)
    phases = [("phase 1", before, alone), ("phase 2", total - before, both)]
    return [phase for phase in phases if phase[1]]


def _costs(name, config, settings):
    """Seconds a step, and bytes of a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = _slope(lambda steps: _train(name, config, Path(folder) / str(steps), steps, **settings))
        return seconds, max(path.stat().st_size for path in Path(folder).rglob(NAME))


def _disk(config, size):
    """Tell what checkpoints take, those that are kept and the one that is written beside them."""
    told = f"{amount((config.keep_last + 1) * size)} for checkpoints of {amount(size)} each"
    _tell(f"disk: {told}; {amount(free_space(config.out))} are free at {config.out}")
    require_space(config.out, size, "a checkpoint")


def _train(name, config, out, steps, **settings):
    from ikem_fast.train import distill, pretrain

    budget = {"epochs": None, "max_steps": steps, "max_minutes": None, "resume": False}
    run = pretrain if name == "pretrain" else distill
    return run(replace(config, out=out, **budget, **settings))


@contextlib.contextmanager
def _unheard():
    """What a few steps tell, that they learn nothing among it, is not about the run."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _slope(train):
    """Seconds a step, of a training of so many steps: what it takes besides is in both."""
    took = []
    for steps in (1, 1 + STEPS):
        began = time.perf_counter()
        with _unheard():
            train(steps)
        took.append(time.perf_counter() - began)
    return max(took[1] - took[0], 0.0) / STEPS


def _demo(out, seed=0, device="auto"):
    """Tell of the parts of the demo, on the people that it is about."""
    from ikem_fast.data import open_dataset
    from ikem_fast.demo import prepare_people, student_config, teacher_config
    from ikem_fast.evaluate.features import load_encoders
    from ikem_fast.runtime.device import choose_device

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        prepare_people(Path(folder), seed)
        seconds = time.perf_counter() - began
        _tell(f"prepare: {seconds:.1f} s")
        config = teacher_config(Path(folder), seed, device)
        minutes = seconds / 60 + _training("pretrain", config)
        with _unheard():
            teacher = _train("pretrain", config, Path(folder) / "briefly", 1)
        minutes += _training("distill", student_config(Path(folder), seed, device, teacher))
        dataset = open_dataset(config.data)
        encoders = load_encoders(teacher, dataset)
        clips = sum(len(split) for split in dataset.splits.values())
        # The teacher's encoders, the same untrained, and half of them for the student.
        minutes += _features(encoders, dataset, 2 * clips + clips // 2, choose_device(device))
    _tell("the classifiers and the report come on top of that")
    return minutes


def _finetune(config):
    """Tell of the trainings on labels, and of the features that are computed beside them."""
    from ikem_fast.evaluate.config import LARGE
    from ikem_fast.evaluate.features import load_encoders, open_splits
    from ikem_fast.evaluate.supervised import train_classifier
    from ikem_fast.runtime.device import choose_device

    check(config)
    dataset, device = open_splits(config), choose_device(config.device)
    few, counts = _few(dataset), {name: len(dataset[name]) for name in ("train", "test")}
    encoders = load_encoders(config.checkpoint, dataset, untrained_seed=config.seed)
    _tell(f"{counts['train']} training clips, {counts['test']} test clips")
    minutes = 0.0
    seconds = _slope(
        lambda steps: train_classifier(
            encoders, few, config.recipe(dataset), len(dataset.classes), replace(config, steps=steps),
            seed=config.seed, device=device, amp=config.amp,
        )
    )  # fmt: skip
    trained = ["from random weights"] if config.untrained else ["from the checkpoint"]
    trained += ["from random weights"] if config.scratch and not config.untrained else []
    for name in trained:
        minutes += config.steps * seconds / 60
        _tell(f"{name}: {config.steps} steps, {seconds:.2f} s each")
    beside = len(dataset["train"]) < LARGE if config.baselines is None else config.baselines
    passes = 1 + len(trained) + (config.untrained_seeds if beside and not config.untrained else 0)
    return minutes + _features(encoders, dataset, passes * sum(counts.values()), device)


def _few(dataset):
    train = dataset["train"]
    return train.take(list(range(min(CLIPS, len(train)))))


def _features(encoders, dataset, clips, device):
    """Tell of the features of so many clips; returns their minutes."""
    from ikem_fast.evaluate.features import extract_features

    few = _few(dataset)
    extract_features(encoders, few, dataset.skeleton, device=device)
    began = time.perf_counter()
    extract_features(encoders, few, dataset.skeleton, device=device)
    seconds = (time.perf_counter() - began) / len(few)
    _tell(f"features: of {clips} clips, {1e3 * seconds:.1f} ms each")
    return clips * seconds / 60


def _memory():
    import torch

    parts = []
    with contextlib.suppress(ImportError):  # Windows has none
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        parts.append(f"{peak / (2**30 if sys.platform == 'darwin' else 2**20):.1f} GiB of this process")
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        parts.append(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU")
    return ", ".join(parts) or "not known here"
