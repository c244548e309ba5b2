"""Pretraining: momentum contrast of each modality, then exchange between modalities."""

import torch

from ikem_fast.data import open_dataset
from ikem_fast.nn.build import build_ikem
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
        model = build_ikem(config.model, dataset.layout).to(processes.device)

        def phase(epoch):
            return "exchange" if epoch >= config.exchange_from else "contrast"

        def forward(clips, frames, first, second, phase, gather=None):
            exchange = phase == "exchange"
            return model(clips, clips, frames, exchange, augment_q=first, augment_k=second, gather=gather)

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
