"""Pretraining: momentum contrast of each modality, then exchange between modalities."""

import torch

from ikem_fast.data import open_dataset
from ikem_fast.nn import IKEM
from ikem_fast.train.device import choose_device
from ikem_fast.train.loop import fit


def pretrain(config):
    """Train `nn.IKEM` on a prepared dataset, both phases. Returns the checkpoint's path.

    Args:
        config: `PretrainConfig`.

    Raises InputError for a dataset, folder, device or setting that cannot be used.
    """
    dataset = open_dataset(config.data)
    torch.manual_seed(config.seed)
    model = build_model(config.model, dataset.layout).to(choose_device(config.device))

    def step(clips, frames, first, second, epoch):
        exchange = epoch >= config.exchange_from
        losses = model(clips, clips, frames, exchange=exchange, augment_q=first, augment_k=second)
        return losses, "exchange" if exchange else "contrast"

    return fit(
        model,
        step,
        model.modalities,
        kind="pretrain",
        config=config,
        model_config=config.model,
        dataset=dataset,
    )


def build_model(config, layout):
    """The `nn.IKEM` of a `ModelConfig`."""
    return IKEM(layout=layout, **vars(config))
