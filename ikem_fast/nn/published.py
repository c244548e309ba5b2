"""Checkpoints of the published code, and of its relatives CrosSCLR and AimCLR, under this package's names."""

from collections.abc import Mapping

import torch

from ikem_fast.nn.distiller import RelationalDistiller
from ikem_fast.nn.ikem import IKEM

# How the published code marks a modality: behind encoder_q, encoder_k and queue; behind mlp2; and behind
# encoder_student_.
_SUFFIX = {
    "joint": "",
    "motion": "_motion",
    "bone": "_bone",
    "acceleration": "_acceleration",
    "rotation_axis": "_rotation_axis",
    "angular_velocity": "_omega",
}
_LETTER = {
    "joint": "j",
    "motion": "m",
    "bone": "b",
    "acceleration": "a",
    "rotation_axis": "r",
    "angular_velocity": "o",
}


def load_published_state_dict(
    model: IKEM | RelationalDistiller, state_dict: Mapping[str, torch.Tensor]
) -> None:
    """Load a checkpoint of the published code into an `IKEM` or a `RelationalDistiller`, in place.

    Banks are stored there as (D,K) for each modality. Exchange heads, and a distiller's students, may be
    missing (CrosSCLR and AimCLR have no exchange heads; a pretraining checkpoint has no students) and then
    keep their weights; so may ring pointers, which then start at 0.

    Args:
        model: has the checkpoint's sizes and modalities.
        state_dict: name → tensor, with or without "module." in front.

    Raises:
        ValueError: a parameter of the model is missing, has another shape, or the checkpoint holds a name
            that belongs nowhere. The model is left as it was.
    """
    prefixes, optional = _prefixes(model)
    published = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    ours, used = {}, set()
    for name in model.state_dict():
        prefix = next((p for p in prefixes if name.startswith(p + ".")), None)
        if prefix is None:
            continue
        theirs = prefixes[prefix] + name.removeprefix(prefix)
        if theirs in published:
            ours[name] = published[theirs]
            used.add(theirs)
        elif not prefix.startswith(optional):
            raise ValueError(f"state_dict: expected {theirs!r} (for {name!r}), which is not there")

    banks = ["queue" + _SUFFIX[name] for name in model.modalities]
    missing = [name for name in banks if name not in published]
    if missing:
        raise ValueError(f"state_dict: expected {missing[0]!r} (a memory bank), which is not there")
    _, K, D = model.bank.rows.shape
    for name in banks:
        if published[name].shape != (D, K):
            raise ValueError(
                f"state_dict: expected shape {(D, K)} for {name!r}, found {tuple(published[name].shape)}"
            )
    ours["bank.rows"] = torch.stack([published[name].T for name in banks])
    pointer = published.get("queue_ptr", torch.zeros(1, dtype=torch.int64))
    ours["bank.pointer"] = pointer.reshape(-1)[0]

    # Pointers turn together, and a distiller's joint bank is the modalities' banks side by side.
    used |= {*banks, "queue_teacher", *(name for name in published if name.startswith("queue_ptr"))}
    # A distiller has no use for what else a pretraining checkpoint holds.
    spare = ("encoder_k", "mlp2") if isinstance(model, RelationalDistiller) else ()
    unknown = [name for name in published if name not in used and not name.startswith(spare or "\0")]
    if unknown:
        raise ValueError(f"state_dict: {unknown[0]!r} belongs nowhere in {type(model).__name__}")
    expected = model.state_dict()
    for name, tensor in ours.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"state_dict: expected shape {tuple(expected[name].shape)} for {name!r}, "
                f"found {tuple(tensor.shape)}"
            )
    model.load_state_dict(ours, strict=False)


def _prefixes(model):
    """Our prefix → theirs, and the prefixes of ours that a checkpoint may lack."""
    if isinstance(model, IKEM):
        prefixes = {}
        for name in model.modalities:
            prefixes[f"query_encoders.{name}"] = "encoder_q" + _SUFFIX[name]
            prefixes[f"key_encoders.{name}"] = "encoder_k" + _SUFFIX[name]
            prefixes[f"exchange_heads.{name}"] = "mlp2" + _LETTER[name]
        return prefixes, ("exchange_heads",)
    if isinstance(model, RelationalDistiller):
        prefixes = {f"teacher.{name}": "encoder_q" + _SUFFIX[name] for name in model.modalities}
        for name in model.student_modalities:
            prefixes[f"students.{name}"] = "encoder_student_" + _LETTER[name]
        return prefixes, ("students",)
    raise TypeError(f"model: expected IKEM or RelationalDistiller, found {type(model).__name__}")
