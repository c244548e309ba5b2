"""Pretraining: momentum contrast of each modality, then exchange between modalities."""

import torch

from ikem_fast.data import open_dataset
from ikem_fast.nn import IKEM
from ikem_fast.runtime.processes import joined
from ikem_fast.train.loop import fit


def pretrain(config):
    """Train `nn.IKEM` on a prepared dataset, both phases. Returns the checkpoint's path.

    Args:
        config: `PretrainConfig`.

    Raises InputError for a dataset, folder, device or setting that cannot be used.
    """
    dataset = open_dataset(config.data)
    with joined(config.device) as processes:
        torch.manual_seed(config.seed)
        model = build_model(config.model, dataset.layout).to(processes.device)

        def phase(epoch):
            return "exchange" if epoch >= config.exchange_from else "contrast"

        def forward(clips, frames, first, second, phase):
            exchange = phase == "exchange"
            return model(clips, clips, frames, exchange=exchange, augment_q=first, augment_k=second)

        return fit(
            model,
            forward,
            phase,
            model.modalities,
            kind="pretrain",
            config=config,
            model_config=config.model,
            dataset=dataset,
            processes=processes,
        )


def build_model(config, layout):
    """The `nn.IKEM` of a `ModelConfig`."""
    return IKEM(layout=layout, **vars(config))
