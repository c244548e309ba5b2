"""The encoders of a checkpoint, for what does not train them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ikem_fast.errors import InputError
from ikem_fast.nn.build import build_distiller, build_ikem
from ikem_fast.ops.modalities.definitions import DEFINITIONS
from ikem_fast.runtime.checkpoint import fitting, stored_bodies, stored_model_config, trained_layout
from ikem_fast.settings import Allowed


def stored_encoders(
    state: Mapping[str, Any], checkpoint: Path, *, untrained_seed: int | None = None
) -> nn.ModuleDict:
    """Build the query encoders of a pretraining checkpoint, or the students of a distillation one.

    Args:
        state: of `load_checkpoint`.
        checkpoint: where it is from, for messages.
        untrained_seed: leave the weights random, drawn from this seed.

    Returns:
        Modality → encoder, on the CPU in eval mode, without gradients.

    Raises InputError where the checkpoint's parts do not fit together, or a weight is not finite.

    Example:
        stored_encoders(load_checkpoint("runs/teacher"), Path("runs/teacher"))["joint"]
    """
    layout = trained_layout(state, checkpoint)
    model_config = stored_model_config(state, checkpoint)
    bodies = stored_bodies(state, checkpoint)
    if untrained_seed is not None:
        torch.manual_seed(untrained_seed)
    if state["kind"] == "pretrain":
        model = build_ikem(model_config, layout, bodies=bodies)
        encoders = model.query_encoders
    else:
        students = state["config"].get("students", ())
        problem = Allowed(choices=tuple(DEFINITIONS)).problem_with(students)
        if problem:
            raise InputError(f"{checkpoint}: students: {problem}, found {students!r}")
        model = build_distiller(model_config, layout, students, bodies=bodies)
        encoders = model.students
    if untrained_seed is None:
        with fitting(checkpoint):
            model.load_state_dict(state["model"])
        _check_weights(encoders, checkpoint)
    return encoders.requires_grad_(False).eval()


def _check_weights(encoders, checkpoint):
    """Kernels may turn what is not a number into one, so that features do not tell."""
    for name, value in encoders.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{checkpoint}: expected finite weights, found others in {name}")
