"""The training loop: stretches of steps of a task, what is told of them, and the checkpoints between them."""

import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from ikem_fast.data import Dataset
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.checkpoint import NAME, plain, save_checkpoint
from ikem_fast.runtime.loggers import Loggers
from ikem_fast.runtime.normalization import synchronize_normalization
from ikem_fast.runtime.processes import Processes
from ikem_fast.train.budget import Budget
from ikem_fast.train.config import TrainConfig
from ikem_fast.train.health import Health
from ikem_fast.train.log import Silence, TrainingLog
from ikem_fast.train.resume import described, go_on
from ikem_fast.train.step import Step
from ikem_fast.train.task import Batch, Task
from ikem_fast.train.views import Views, seed_of


def fit(task: Task, config: TrainConfig, dataset: Dataset, processes: Processes) -> Path:
    """Train on the split "train" and leave a checkpoint and metrics.jsonl, with figures for its loggers.

    A step depends on the seed, its number and the checkpoint before it alone, so that a run that was stopped
    and resumed gives the same bits as one that was not; where minutes end it, the time used is kept. It may
    go on with another number of processes: then all but dropout masks and normalisation statistics stay as
    they would have been. Nothing keeps the model alive when it returns or raises.

    Args:
        task: what is trained.
        config: the settings, checked.
        dataset: what it is trained on.
        processes: those that train; the first of them logs and writes.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: `out` holds another run, or a batch does not go with the dataset, the task or the number
            of processes (before anything is written); or numbers became infinite or NaN.

    Example:
        with joined("auto") as processes:
            fit(Pretraining(model, config.model, 151), config, dataset, processes)
    """
    path = Path(config.out) / NAME
    loader = BatchLoader(
        dataset["train"],
        config.batch_size,
        processes.device,
        config.seed,
        config.drop_last,
        lambda clips: processes.share(clips).clips,
    )
    _check_batches(config, dataset, loader, processes)
    task.check(loader.clips_in(0))
    views = Views(config, dataset, processes)
    health = Health(task, dataset["train"].labels)
    if config.sync_bn:
        synchronize_normalization(task.model, processes)
    with freed_memory_kept(processes.device), Step(task, config, processes) as step:
        steps, seconds = go_on(path, task, config, dataset, step, len(loader), processes)
        processes.equalize(task.model)
        keeper = _Keeper(path, task, config, dataset, step, steps)
        task.model.train()
        if not steps:
            task.begin(loader, processes)
        budget = Budget(config, len(loader), processes, steps, seconds)
        with _log(task, config, budget, processes) as log:
            progress = budget.progress()
            while not progress.over:
                began, phase = progress, task.phase(progress)
                log.start(began)
                progress, losses = _stretch(began, task, step, loader, views, health, config, budget, log)
                means = dict(zip(task.names, losses, strict=True))
                processes.average_statistics(task.model)
                keeper.check_losses(began, means)
                health.follow(progress, phase, means)
                due = processes.first and health.due(progress)
                report = health.look(progress, phase, means) if due else None
                log.end(progress, phase, step.rate, means, report)
                if processes.first:
                    keeper.keep(began, progress, budget.seconds)
    return path


def _stretch(began, task, step, loader, views, health, config, budget, log):
    """Train on, a step at least, to the end of the epoch, of the phase or of the budget.

    Returns where the run then stands, and each loss's mean over the clips, as floats.
    """
    processes, phase = step.processes, task.phase(began)
    progress, total, seen = began, 0, 0
    for clips, frames in loader.epoch(began.epoch, began.batch):
        size = loader.clips_in(progress.batch)
        task.advance(progress)
        step.set_learning_rate(config.learning_rate(progress))
        _seed_dropout(config.seed, progress, processes)
        total = total + step(Batch(*views(clips, size, progress), frames), size, phase) * size
        health.keep(loader.places(began.epoch, progress.batch))
        seen += size
        log.step(size)
        budget.count()
        progress = budget.progress()
        if progress.over or progress.epoch != began.epoch or task.phase(progress) != phase:
            break
    processes.add(total)
    return progress, (total / seen).tolist()


class _Keeper:
    """Writes checkpoints, seldom enough that a short epoch does not wait for the disk, and never bad ones."""

    def __init__(self, path, task, config, dataset, step, steps):
        self.path, self.task, self.config, self.step = path, task, config, step
        self.origin = described(dataset)
        self.kept = steps  # steps in the checkpoint on disk
        self.when = time.monotonic()

    def check_losses(self, began, losses):
        """Raise InputError where one is not a finite number."""
        self._refuse(
            began,
            [f"a loss of {name} that is {loss}" for name, loss in losses.items() if not np.isfinite(loss)],
        )

    def keep(self, began, progress, seconds):
        """Write a checkpoint if the last is old enough or the run is over.

        Raises InputError where a weight, a statistic or a key is not a finite number.
        """
        if not progress.over and time.monotonic() - self.when < self.config.checkpoint_every:
            return
        numbers = {n: value for n, value in self.task.model.state_dict().items() if value.is_floating_point()}
        finite = torch.stack([value.isfinite().all() for value in numbers.values()]).tolist()
        self._refuse(
            began, [f"{name} not finite" for name, good in zip(numbers, finite, strict=True) if not good][:3]
        )
        save_checkpoint(
            self.path,
            kind=self.task.kind,
            config=self.config,
            model_config=self.task.model_config,
            dataset=self.origin,
            epoch=progress.epoch - 1,
            step=progress.steps,
            seconds=seconds,
            model=self.task.model,
            optimizer=self.step.optimizer,
        )
        self.kept, self.when = progress.steps, time.monotonic()

    def _refuse(self, began, spoiled):
        if spoiled:
            kept = f"the checkpoint of step {self.kept} is kept"
            kept = kept if self.kept else "there is no checkpoint yet"
            raise InputError(
                f"{self.path.parent}: expected finite numbers, found {', '.join(spoiled)} in epoch "
                f"{began.epoch}; {kept}: begin again with a smaller --lr, and look for clips that are not "
                "finite"
            )


def _check_batches(config, dataset, loader, processes):
    if not len(loader):
        raise InputError(
            f"{dataset.folder}: expected at least one batch of {config.batch_size} clips to train on, found "
            f"{len(dataset['train'])} clips; make --batch-size smaller or --drop-last false"
        )
    if config.batch_size < processes.size:
        raise InputError(
            f"batch_size: expected at least a clip for each of {processes.size} processes, found "
            f"{config.batch_size}; it counts the clips of all of them"
        )


def _log(task, config, budget, processes):
    if not processes.first:
        return Silence()
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    loggers = Loggers(config.loggers, out, plain(asdict(config)), budget.steps)
    return TrainingLog(out, task.kind, budget.steps_an_epoch, budget.steps, budget.total, loggers)


def _seed_dropout(seed, progress, processes):
    """Have a step draw the same masks whatever was drawn before it; each process its own.

    `torch.manual_seed` would visit every kind of device each time.
    """
    value = seed_of(seed, "dropout", progress.epoch, progress.batch, processes.rank)
    torch.default_generator.manual_seed(value)
    if processes.device.type == "cuda":
        torch.cuda.default_generators[processes.device.index].manual_seed(value)
