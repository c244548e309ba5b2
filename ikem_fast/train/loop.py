"""The training loop that pretraining and distillation share."""

from pathlib import Path

import numpy as np
import torch

from ikem_fast import augment
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError
from ikem_fast.train.checkpoint import NAME, load_checkpoint, save_checkpoint
from ikem_fast.train.log import TrainingLog


def fit(model, step, names, *, kind, config, model_config, dataset):
    """Train `model` on the split "train" and leave a checkpoint, metrics.jsonl and TensorBoard scalars.

    An epoch depends on the seed, its number and the checkpoint before it alone, so that a run that was
    stopped and resumed gives the same bits as one that was not.

    Args:
        model: on its device already; parameters that require a gradient are trained.
        step: step(clips, frames, first, second, epoch) → (losses (L,), name of the phase): a forward pass on
            two augmented views of a batch.
        names: of the L losses.
        kind: "pretrain" or "distill", for the checkpoint.
        config: `TrainConfig`.
        model_config: `ModelConfig` that the model can be built from again.
        dataset: `data.Dataset`.

    Returns:
        The path of the checkpoint.

    Raises:
        InputError: `out` holds another run, or a loss became infinite or NaN.
    """
    out = Path(config.out)
    path = out / NAME
    device = next(model.parameters()).device
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad],
        lr=config.lr,
        momentum=config.sgd_momentum,
        weight_decay=config.weight_decay,
    )
    epochs_done = _resume(path, kind, config, model, optimizer)
    loader = BatchLoader(dataset["train"], config.batch_size, device, config.seed, config.drop_last)
    if not len(loader):
        raise InputError(
            f"{dataset.folder}: expected at least one batch of {config.batch_size} clips to train on, found "
            f"{len(dataset['train'])} clips; make --batch_size smaller or drop_last false"
        )

    if min(config.batch_size, len(dataset["train"])) > model_config.queue_size:
        raise InputError(
            f"batch_size: expected at most queue_size = {model_config.queue_size} clips, found "
            f"{config.batch_size}; the bank must hold a batch"
        )

    out.mkdir(parents=True, exist_ok=True)
    model.train()
    with TrainingLog(out, kind, len(loader), epochs_done + 1, config.epochs) as log:
        for epoch in range(epochs_done + 1, config.epochs + 1):
            learning_rate = config.learning_rate(epoch)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate
            torch.manual_seed(_seed(config.seed, "dropout", epoch))
            random = torch.Generator().manual_seed(
                _seed(config.seed, "augmentation", epoch if config.fresh_augmentation else 1)
            )
            log.start_epoch(epoch)
            total = torch.zeros(len(names), device=device)
            for clips, frames in loader.epoch(epoch):
                views = [draw_view(clips, config, random) for _ in range(2)]
                with torch.autocast(device.type, torch.bfloat16, enabled=config.amp):
                    losses, phase = step(clips, frames, *views, epoch)
                optimizer.zero_grad()
                losses.sum().backward()
                optimizer.step()
                total += losses.detach() * len(clips)
                log.step(len(clips))
            means = dict(zip(names, (total / log.clips).tolist(), strict=True))
            if not np.isfinite(sum(means.values())):
                raise InputError(
                    f"{out}: expected finite losses, found {means} in epoch {epoch}; the checkpoint of epoch "
                    f"{epoch - 1} is kept: try a smaller --lr"
                )
            log.end_epoch(phase, learning_rate, means)
            save_checkpoint(
                path,
                kind=kind,
                config=config,
                model_config=model_config,
                dataset=dataset,
                epoch=epoch,
                model=model,
                optimizer=optimizer,
            )
    return path


def draw_view(clips, config, random):
    """Random parameters of one augmented view, as `ops.derive_modalities` takes them."""
    view = {}
    if config.shear_amplitude:
        view["shear"] = augment.draw_shear(
            len(clips), config.shear_amplitude, generator=random, device=clips.device
        )
    if config.temporal_crop:
        view["crop_start"] = augment.draw_crop_start(
            len(clips), clips.shape[2], generator=random, device=clips.device
        )
    return view


def _resume(path, kind, config, model, optimizer):
    """Load the checkpoint at `path` if the run is to go on from it; the number of epochs done."""
    if not path.exists():
        return 0
    if not config.resume:
        raise InputError(
            f"{path.parent}: expected no run there, found a checkpoint; go on with --resume true"
        )
    state = load_checkpoint(path, kinds=(kind,))
    try:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: does not fit this run's settings: {reason}") from None
    return state["epoch"]


def _seed(seed, purpose, epoch):
    entropy = (seed, epoch, int.from_bytes(purpose.encode()))
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1)
