"""The training loop: epochs of a task, what is told of them, and the checkpoint after each."""

from pathlib import Path

import numpy as np
import torch

from ikem_fast import augment
from ikem_fast.data import Dataset
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError
from ikem_fast.runtime.allocator import freed_memory_kept
from ikem_fast.runtime.checkpoint import NAME, save_checkpoint
from ikem_fast.runtime.normalization import synchronize_normalization
from ikem_fast.runtime.processes import Processes
from ikem_fast.train.config import TrainConfig
from ikem_fast.train.log import Silence, TrainingLog
from ikem_fast.train.resume import described, go_on
from ikem_fast.train.step import Step
from ikem_fast.train.task import Batch, Task


def fit(task: Task, config: TrainConfig, dataset: Dataset, processes: Processes) -> Path:
    """Train on the split "train" and leave a checkpoint, metrics.jsonl and TensorBoard scalars.

    An epoch depends on the seed, its number and the checkpoint before it alone, so that a run that was
    stopped and resumed gives the same bits as one that was not. It may go on with another number of
    processes: then all but dropout masks and normalisation statistics stay as they would have been.
    Nothing keeps the model alive when it returns or raises.

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
    if config.sync_bn:
        synchronize_normalization(task.model, processes)
    with freed_memory_kept(processes.device), Step(task, config, processes) as step:
        epochs_done = go_on(path, task, config, dataset, step, processes)
        processes.equalize(task.model)
        origin = described(dataset)
        task.model.train()
        with _log(path.parent, task.kind, len(loader), epochs_done, config.epochs, processes) as log:
            for epoch in range(epochs_done + 1, config.epochs + 1):
                log.start_epoch(epoch)
                phase, learning_rate = task.phase(epoch), config.learning_rate(epoch)
                step.set_learning_rate(learning_rate)
                losses = _epoch(epoch, phase, step, loader, config, processes, log)
                means = dict(zip(task.names, losses, strict=True))
                processes.average_statistics(task.model)
                _check_finite(path.parent, epoch, means, task.model)
                log.end_epoch(phase, learning_rate, means)
                if processes.first:
                    save_checkpoint(
                        path,
                        kind=task.kind,
                        config=config,
                        model_config=task.model_config,
                        dataset=origin,
                        epoch=epoch,
                        model=task.model,
                        optimizer=step.optimizer,
                    )
    return path


def _epoch(epoch, phase, step, loader, config, processes, log):
    """Train on every batch once; each loss's mean over the clips of the epoch, as floats."""
    torch.manual_seed(_seed(config.seed, "dropout", epoch, processes.rank))
    random = torch.Generator().manual_seed(
        _seed(config.seed, "augmentation", epoch if config.fresh_augmentation else 1)
    )
    total, seen = 0, 0
    for number, (clips, frames) in enumerate(loader.epoch(epoch)):
        size = loader.clips_in(number)
        # Drawn for the whole batch, so that every process draws alike, and cut to this one's share.
        views = [draw_view(size, clips.shape[2], config, random) for _ in range(2)]
        views = tuple(_placed(view, processes.share(size).clips, processes.device) for view in views)
        total = total + step(Batch(clips, frames, views), size, phase) * size
        seen += size
        log.step(size)
    processes.add(total)
    return (total / seen).tolist()


def draw_view(
    clips: int, frames: int, config: TrainConfig, random: torch.Generator
) -> dict[str, torch.Tensor]:
    """Draw the parameters of one augmented view of `clips` clips of `frames` frames, on the CPU.

    They are as `ops.derive_modalities` takes them.
    """
    view = {}
    if config.shear_amplitude:
        view["shear"] = augment.draw_shear(clips, config.shear_amplitude, generator=random)
    if config.temporal_crop:
        view["crop_start"] = augment.draw_crop_start(clips, frames, generator=random)
    return view


def _placed(view, share, device):
    """This process's part of a view's parameters, on the device without waiting for it."""
    view = {name: values[share] for name, values in view.items()}
    if device.type == "cuda":
        view = {name: values.pin_memory() for name, values in view.items()}
    return {name: values.to(device, non_blocking=True) for name, values in view.items()}


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


def _check_finite(out, epoch, losses, model):
    """Raise InputError where a loss, a weight, a statistic or a key is not a finite number."""
    spoiled = [f"a loss of {name} that is {loss}" for name, loss in losses.items() if not np.isfinite(loss)]
    numbers = {name: value for name, value in model.state_dict().items() if value.is_floating_point()}
    finite = torch.stack([value.isfinite().all() for value in numbers.values()]).tolist()
    spoiled += [f"{name} not finite" for name, good in zip(numbers, finite, strict=True) if not good][:3]
    if spoiled:
        kept = f"the checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else "there is no checkpoint yet"
        raise InputError(
            f"{out}: expected finite numbers, found {', '.join(spoiled)} in epoch {epoch}; {kept}: "
            "begin again with a smaller --lr, and look for clips that are not finite"
        )


def _log(out, kind, steps, epochs_done, epochs, processes):
    if not processes.first:
        return Silence()
    out.mkdir(parents=True, exist_ok=True)
    return TrainingLog(out, kind, steps, epochs_done + 1, epochs)


def _seed(seed, purpose, epoch, rank=0):
    entropy = (seed, epoch, int.from_bytes(purpose.encode()), *([rank] if rank else []))
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
