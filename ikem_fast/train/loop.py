"""The training loop that pretraining and distillation share."""

from pathlib import Path

import numpy as np
import torch

from ikem_fast import augment
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError
from ikem_fast.runtime.checkpoint import NAME, load_checkpoint, save_checkpoint
from ikem_fast.runtime.processes import synchronise_normalisation
from ikem_fast.train.log import Silence, TrainingLog
from ikem_fast.train.step import Step


def fit(model, forward, phase_of, names, *, kind, config, model_config, dataset, processes):
    """Train `model` on the split "train" and leave a checkpoint, metrics.jsonl and TensorBoard scalars.

    An epoch depends on the seed, its number and the checkpoint before it alone, so that a run that was
    stopped and resumed gives the same bits as one that was not. It may go on with another number of
    processes: then all but dropout masks and normalisation statistics stay as they would have been.

    Args:
        model: on its device already; parameters that require a gradient are trained.
        forward: forward(clips, frames, first, second, phase) → losses (L,): a forward pass on two augmented
            views of a batch.
        phase_of: epoch → name of the phase.
        names: of the L losses.
        kind: "pretrain" or "distill", for the checkpoint.
        config: `TrainConfig`.
        model_config: `ModelConfig` that the model can be built from again.
        dataset: `data.Dataset`.
        processes: `distributed.Processes`; the first of them logs and writes.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: `out` holds another run, or a loss became infinite or NaN, or a batch does not go with
            the dataset, the bank or the number of processes.
    """
    out = Path(config.out)
    path = out / NAME
    device = processes.device
    loader = BatchLoader(
        dataset["train"],
        config.batch_size,
        device,
        config.seed,
        config.drop_last,
        processes.rank,
        processes.size,
    )
    _check_batch(config, model_config, dataset, loader, processes)
    if config.sync_bn:
        synchronise_normalisation(model, processes)
    step = Step(model, forward, config, processes)
    epochs_done = _resume(path, kind, config, model, step, processes)
    processes.equalise(model)

    model.train()
    with _log(out, kind, len(loader), epochs_done, config.epochs, processes) as log:
        for epoch in range(epochs_done + 1, config.epochs + 1):
            phase, learning_rate = phase_of(epoch), config.learning_rate(epoch)
            step.set_learning_rate(learning_rate)
            torch.manual_seed(_seed(config.seed, "dropout", epoch, processes.rank))
            random = torch.Generator().manual_seed(
                _seed(config.seed, "augmentation", epoch if config.fresh_augmentation else 1)
            )
            log.start_epoch(epoch)
            total, seen = torch.zeros(len(names), device=device), 0
            for number, (clips, frames) in enumerate(loader.epoch(epoch)):
                size = loader.clips_in(number)
                # Drawn for the whole batch, so that every process draws alike, and cut to this one's share.
                views = [draw_view(size, clips.shape[2], config, random) for _ in range(2)]
                views = [_placed(view, processes.share(size).clips, device) for view in views]
                total += step(clips, frames, views, size, phase) * size
                seen += size
                log.step(size)
            processes.add(total)
            means = dict(zip(names, (total / seen).tolist(), strict=True))
            if not np.isfinite(sum(means.values())):
                raise InputError(
                    f"{out}: expected finite losses, found {means} in epoch {epoch}; the checkpoint of epoch "
                    f"{epoch - 1} is kept: try a smaller --lr"
                )
            processes.average_statistics(model)
            log.end_epoch(phase, learning_rate, means)
            if processes.first:
                save_checkpoint(
                    path,
                    kind=kind,
                    config=config,
                    model_config=model_config,
                    dataset=dataset,
                    epoch=epoch,
                    model=model,
                    optimizer=step.optimizer,
                )
    return path


def draw_view(clips, frames, config, random):
    """Random parameters of one augmented view of `clips` clips of `frames` frames, on the CPU.

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


def _check_batch(config, model_config, dataset, loader, processes):
    if not len(loader):
        raise InputError(
            f"{dataset.folder}: expected at least one batch of {config.batch_size} clips to train on, found "
            f"{len(dataset['train'])} clips; make --batch_size smaller or drop_last false"
        )
    if loader.clips_in(0) > model_config.queue_size:
        raise InputError(
            f"batch_size: expected at most queue_size = {model_config.queue_size} clips, found "
            f"{config.batch_size}; the bank must hold a batch"
        )
    if config.batch_size < processes.size:
        raise InputError(
            f"batch_size: expected at least a clip for each of {processes.size} processes, found "
            f"{config.batch_size}; it counts the clips of all of them"
        )


def _log(out, kind, steps, epochs_done, epochs, processes):
    if not processes.first:
        return Silence()
    out.mkdir(parents=True, exist_ok=True)
    return TrainingLog(out, kind, steps, epochs_done + 1, epochs)


def _resume(path, kind, config, model, step, processes):
    """Load the checkpoint at `path` if the run is to go on from it; the number of epochs done."""

    def read():
        if not path.exists():
            return None
        if not config.resume:
            raise InputError(
                f"{path.parent}: expected no run there, found a checkpoint; go on with --resume true"
            )
        return load_checkpoint(path, kinds=(kind,))

    state = processes.of_first(read)
    if state is None:
        return 0
    try:
        model.load_state_dict(state["model"])
        step.load_optimizer(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: does not fit this run's settings: {reason}") from None
    return state["epoch"]


def _seed(seed, purpose, epoch, rank=0):
    entropy = (seed, epoch, int.from_bytes(purpose.encode()), *([rank] if rank else []))
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
