"""Frozen encoders out of a checkpoint, and the features they give of a dataset's clips."""

import torch
from torch import nn

from ikem_fast import ops
from ikem_fast.data.loader import BatchLoader
from ikem_fast.errors import InputError
from ikem_fast.nn.build import build_distiller, build_ikem
from ikem_fast.nn.config import ModelConfig
from ikem_fast.progress import progress_bar
from ikem_fast.runtime.checkpoint import load_checkpoint

# Clips at once: few keep a CPU's caches warm, many fill a GPU (about 8 MB of activations each).
BATCH_SIZES = {"cpu": 64, "cuda": 1024}


def load_encoders(checkpoint, dataset, *, untrained_seed=None):
    """The query encoders of a pretraining checkpoint, or the students of a distillation one.

    Args:
        checkpoint: path of a checkpoint.
        dataset: `data.Dataset` that the encoders are for.
        untrained_seed: leave the weights random, drawn from this seed.

    Returns:
        nn.ModuleDict, modality → encoder, on the CPU in eval mode.

    Raises InputError if the checkpoint cannot be read or was trained on another joint layout.
    """
    state = load_checkpoint(checkpoint)
    layout = state["dataset"]["layout"]
    if layout != dataset.layout:
        raise InputError(
            f"{checkpoint}: expected a model for the layout of {dataset.folder}, {dataset.layout!r}, "
            f"found one for {layout!r}"
        )
    if untrained_seed is not None:
        torch.manual_seed(untrained_seed)
    model_config = ModelConfig.of(state["model_config"])
    if state["kind"] == "pretrain":
        model = build_ikem(model_config, layout)
        encoders = model.query_encoders
    else:
        model = build_distiller(model_config, layout, state["config"]["students"])
        encoders = model.students
    if untrained_seed is None:
        model.load_state_dict(state["model"])
    return encoders.requires_grad_(False).eval()


def extract_features(encoders, split, layout, *, device, amp=False, title="features"):
    """The pooled feature of every clip, without augmentation: (N,P,H) float32 on the CPU."""
    encoders.to(device).eval()
    features = [
        torch.stack(_features(encoders, clips, frames, layout, amp), 1).float().cpu()
        for clips, frames in _with_progress(_loader(split, device), title)
    ]
    return torch.cat(features)


def estimate_statistics(encoders, split, layout, *, device):
    """Set every normalisation's running statistics to the averages over the clips of a split.

    An untrained encoder has initial statistics that fit no data; with these it is a fair comparison.
    """
    encoders.to(device).eval()
    for module in encoders.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None  # a plain average over batches
            module.train()
    for clips, frames in _with_progress(_loader(split, device), "statistics"):
        _features(encoders, clips, frames, layout, amp=False)
    encoders.eval()


@torch.no_grad()
def _features(encoders, clips, frames, layout, amp):
    views = ops.derive_modalities(clips, frames, modalities=tuple(encoders), layout=layout)
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=amp):
        return [encoder(view)[1] for encoder, view in zip(encoders.values(), views, strict=True)]


def _loader(split, device):
    return BatchLoader(split, BATCH_SIZES.get(torch.device(device).type, 64), device)


def _with_progress(loader, title):
    with progress_bar() as progress:
        task = progress.add_task(title, total=len(loader), status="")
        for batch in loader.in_order():
            yield batch
            progress.advance(task)
