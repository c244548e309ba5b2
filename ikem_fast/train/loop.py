"""The training loop: stretches of steps of a task, what is told of them, and the checkpoints between them."""

import contextlib
import os
from dataclasses import asdict
from pathlib import Path

import torch

from ikem_fast.data import Dataset
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError, Stopped
from ikem_fast.files import lock_folder
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.checkpoint import NAME, plain
from ikem_fast.runtime.loggers import Loggers
from ikem_fast.runtime.normalization import synchronize_normalization
from ikem_fast.runtime.processes import Processes
from ikem_fast.runtime.signals import StopSignals
from ikem_fast.train.budget import Budget
from ikem_fast.train.config import TrainConfig
from ikem_fast.train.guard import Guard
from ikem_fast.train.health import Health
from ikem_fast.train.keeper import Keeper
from ikem_fast.train.limits import naming_what_ran_out
from ikem_fast.train.log import Silence, TrainingLog
from ikem_fast.train.resume import MAY_CHANGE, described, go_on
from ikem_fast.train.step import Step
from ikem_fast.train.task import Batch, Task
from ikem_fast.train.views import Views, seed_of

KEEP, STOP = 1, 2  # what a process may wish for behind a step


def fit(task: Task, config: TrainConfig, dataset: Dataset, processes: Processes) -> Path:
    """Train on the split "train" and leave checkpoints and metrics.jsonl, with figures for its loggers.

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
        The path of the newest checkpoint.

    Raises:
        InputError: `out` holds another run, or one that is not over, or a batch does not go with the dataset,
            the task or the number of processes (before anything is written); or numbers became infinite or
            NaN, `out` cannot be written to, or memory does not suffice.
        Stopped: a signal told it to stop (SIGINT, SIGTERM, SIGUSR1, SIGHUP), and its state is on disk.

    Example:
        with joined("auto") as processes:
            fit(Pretraining(model, config.model, 151), config, dataset, processes)
    """
    loader = BatchLoader(
        dataset["train"],
        config.batch_size,
        processes.device,
        config.seed,
        config.leaves_out_last(len(dataset["train"])),
        lambda clips: processes.share(clips).clips,
    )
    _check_batches(config, dataset, loader, processes)
    task.check(loader.clips_in(0))
    views = Views(config, dataset, processes)
    processes.require_same(_seen_by_all(config, dataset))
    if config.sync_bn:
        synchronize_normalization(task.model, processes)
    with (
        StopSignals() as signals,
        naming_what_ran_out(config),
        freed_memory_kept(processes.device),
        Step(task, config, processes) as step,
        _alone_in(Path(config.out), processes),
    ):
        _Run(task, config, dataset, processes, loader, views, step, signals).go()
    return Path(config.out) / NAME


class _Run:
    """What a run consists of, and its way from the checkpoint that there is to the end of its budget."""

    def __init__(self, task, config, dataset, processes, loader, views, step, signals):
        self.task, self.config, self.processes = task, config, processes
        self.loader, self.views, self.step, self.signals = loader, views, step, signals
        self.health = Health(task, dataset["train"].labels)
        standing = go_on(task, config, dataset, step, len(loader), processes)
        processes.equalize(task.model)
        self.keeper = Keeper(task, config, dataset, step, standing)
        self.guard = Guard(Path(config.out), config.nonfinite == "skip", dataset["train"], loader, processes)
        self.sums = _Sums(task.names, processes, standing.unfinished.get("sums"))
        if standing.unfinished.get("health"):
            self.health.load(standing.unfinished["health"], processes.device)
        self.budget = Budget(
            len(loader), config.total_steps(len(loader)), config.max_minutes, processes,
            standing.steps, standing.seconds,
        )  # fmt: skip
        if not standing.steps:
            task.begin(loader, processes)
        task.model.train()

    def go(self):
        progress = began = self.budget.progress()
        if not began.over:
            self.processes.of_first(self.keeper.check_space)
        with self._log() as log:
            log.start(began)
            while not progress.over:
                phase = self.task.phase(progress)
                progress, wish = self._steps(progress, phase, log)
                self.guard.look()
                self.processes.average_statistics(self.task.model)
                if self._is_end(began, progress, phase):
                    self._tell(began, progress, phase, log)
                self._keep(began, progress, wish)
                if wish == STOP and not progress.over:
                    signal = self.signals.received or "of another process"
                    raise Stopped(
                        f"{self.config.out}: stopped at a signal ({signal}), with a checkpoint of step "
                        f"{progress.steps}; go on with --resume auto"
                    )
                if self.sums.empty:
                    began = progress
                    log.start(began)

    def _steps(self, progress, phase, log):
        """Train on, a step at least, to the end of the stretch or to where a process wishes for something.

        A stretch ends with the epoch, the phase or the budget. Returns where the run then stands, and the
        wish.
        """
        config, processes, began = self.config, self.processes, progress
        for clips, frames in self.loader.epoch(began.epoch, began.batch):
            size = self.loader.clips_in(progress.batch)
            self.task.advance(progress)
            self.step.set_learning_rate(config.learning_rate(progress))
            _seed_dropout(config.seed, progress, processes)
            losses = self.step(Batch(*self.views(clips, size, progress), frames), size, phase)
            self.guard.watch(progress, self.step.norm)
            self.sums.add(losses, self.step.norm, size)
            self.health.keep(self.loader.places(began.epoch, progress.batch))
            log.step(size)
            self.budget.count()
            progress = self.budget.progress()
            wish = processes.most(self._wish(progress), progress.steps)
            if wish or self._is_end(began, progress, phase):
                break
        return progress, wish

    def _wish(self, progress):
        if self.signals.received:
            return STOP
        return KEEP if self.processes.first and self.keeper.due(progress.steps) else 0

    def _is_end(self, began, progress, phase):
        return progress.over or progress.epoch != began.epoch or self.task.phase(progress) != phase

    def _tell(self, began, progress, phase, log):
        """Have a stretch that ended logged, with a look at the run's health now and then."""
        means, norm = self.sums.take()
        if norm is None:  # every step was passed over
            return
        self.keeper.check_losses(began, means)
        self.keeper.follow(phase, means)
        self.health.follow(progress, phase, means)
        due = self.processes.first and self.health.due(progress, phase)
        report = self.health.look(progress, phase, means) if due else None
        log.end(progress, phase, self.step.rate, means, report, norm)

    def _keep(self, began, progress, wish):
        sums = self.sums.of_all()
        due = wish or progress.over or self.keeper.improved
        if due and self.processes.first:
            unfinished = {"sums": sums, "health": self.health.state()}
            self.keeper.keep(began, progress, self.budget.seconds, unfinished)

    def _log(self):
        if not self.processes.first:
            return Silence()
        budget = self.budget
        out = Path(self.config.out)
        loggers = Loggers(self.config.loggers, out, plain(asdict(self.config)), budget.steps)
        return TrainingLog(out, self.task.kind, budget.steps_an_epoch, budget.steps, budget.total, loggers)


class _Sums:
    """Losses, gradient norms and clips of the present stretch, added up on the device."""

    def __init__(self, names, processes, kept=None):
        """kept: of a checkpoint, of all processes together."""
        self.names, self.processes = names, processes
        self.sums = None
        if kept is not None:
            self.sums = kept.to(processes.device) if processes.first else torch.zeros_like(kept)

    @property
    def empty(self):
        return self.sums is None

    def add(self, losses, norm, size):
        """Add a step of `size` clips; one whose gradient is not finite counts for nothing."""
        own = size if self.processes.first else 0
        row = torch.cat([losses.float() * size, torch.stack([norm * own, torch.full_like(norm, own)])])
        row = torch.where(norm.isfinite(), row, 0)
        self.sums = row if self.sums is None else self.sums + row

    def of_all(self):
        """Return the sums over all processes, None where a stretch just ended."""
        if self.sums is None:
            return None
        sums = self.sums.clone()
        self.processes.add(sums)
        return sums

    def take(self):
        """Return each loss's mean over the clips and that of the norms, None without; and begin anew."""
        sums = self.of_all().double()
        self.sums = None
        *losses, norm, clips = sums.tolist()
        if not clips:
            return {}, None
        losses, norm = [loss / clips for loss in losses], norm / clips
        return dict(zip(self.names, losses, strict=True)), norm


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


def _seen_by_all(config, dataset):
    """What every process must see alike: the settings that make numbers, and the clips."""
    return {
        **{
            f"setting {name}": value
            for name, value in plain(asdict(config)).items()
            if name not in MAY_CHANGE
        },
        "dataset with the fingerprint": described(dataset)["fingerprint"],
    }


@contextlib.contextmanager
def _alone_in(out, processes):
    """Hold the folder of a run, against a second one, while the block runs."""
    lock = None

    def take():
        nonlocal lock
        out.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(out, "training into")

    try:
        processes.of_first(take)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _seed_dropout(seed, progress, processes):
    """Have a step draw the same masks whatever was drawn before it; each process its own.

    `torch.manual_seed` would visit every kind of device each time.
    """
    value = seed_of(seed, "dropout", progress.epoch, progress.batch, processes.rank)
    torch.default_generator.manual_seed(value)
    if processes.device.type == "cuda":
        torch.cuda.default_generators[processes.device.index].manual_seed(value)
