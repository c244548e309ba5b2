"""Distillation of a pretrained model of many modalities into students of few."""

import torch

from ikem_fast.data import open_dataset
from ikem_fast.errors import InputError
from ikem_fast.nn.build import build_distiller
from ikem_fast.nn.config import ModelConfig
from ikem_fast.runtime.checkpoint import load_checkpoint
from ikem_fast.runtime.processes import joined
from ikem_fast.train.loop import fit


def distill(config):
    """Train `nn.RelationalDistiller` on a prepared dataset. Returns the checkpoint's path.

    Args:
        config: `DistillConfig`.

    Raises InputError for a teacher, dataset, folder, device or setting that cannot be used.
    """
    dataset = open_dataset(config.data)
    state = load_checkpoint(config.teacher, kinds=("pretrain",))
    layout = state["dataset"]["layout"]
    if layout != dataset.layout:
        raise InputError(
            f"{config.teacher}: expected a teacher for the layout of {config.data}, {dataset.layout!r}, "
            f"found one for {layout!r}"
        )
    model_config = ModelConfig.of(state["model_config"])
    with joined(config.device) as processes:
        torch.manual_seed(config.seed)
        model = build_distiller(
            model_config,
            layout,
            config.students,
            temperature=config.temperature,
            teacher_mode=config.teacher_mode,
            teacher=state["model"],
        )
        model.to(processes.device)

        def forward(clips, frames, first, second, phase, gather=None):
            return model(clips, clips, frames, augment_teacher=first, augment_student=second, gather=gather)

        return fit(
            model,
            forward,
            lambda epoch: "distillation",
            model.student_modalities,
            kind="distill",
            config=config,
            model_config=model_config,
            dataset=dataset,
            processes=processes,
        )
