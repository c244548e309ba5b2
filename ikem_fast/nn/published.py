"""Checkpoints of the published code, and of its relatives CrosSCLR, AimCLR and SkeletonCLR, and back."""

from collections.abc import Mapping

import torch
from torch import nn

from ikem_fast.nn.distiller import RelationalDistiller
from ikem_fast.nn.encoders.stgcn import STGCN
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
    model: IKEM | RelationalDistiller | STGCN,
    state_dict: Mapping[str, torch.Tensor],
    *,
    encoder: str | None = None,
) -> None:
    """Load a checkpoint of the published code into an `IKEM`, `RelationalDistiller` or `STGCN`, in place.

    Banks are stored there as (D,K) for each modality. Exchange heads, and a distiller's students, may be
    missing (CrosSCLR and AimCLR have no exchange heads; a pretraining checkpoint has no students) and then
    keep their weights; so may ring pointers, which then start at 0. A model of one modality, such as
    SkeletonCLR's and AimCLR's, has no modality in its names. Heads that are nested, as the motion's and the
    bone's of CrosSCLR's three views, take the place of the encoders' own. Of a checkpoint with an ST-GCN an
    `STGCN` takes the encoder, and keeps its `fc` where the checkpoint has none.

    Args:
        model: has the checkpoint's sizes and modalities.
        state_dict: name → tensor, with or without "module." in front.
        encoder: for an `STGCN`, what stands in front of its names, such as "encoder_q_motion"; found out
            where the checkpoint has one encoder, or "encoder_q".

    Example:
        three = IKEM(modalities=("joint", "motion", "bone"), queue_size=64)
        load_published_state_dict(three, published_state_dict(three))

    Raises:
        ValueError: a parameter of the model is missing, has another shape, or the checkpoint holds a name
            that belongs nowhere. The model is left as it was.
    """
    published = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    if isinstance(model, STGCN):
        _load_encoder(model, published, encoder)
        return
    if not isinstance(model, IKEM | RelationalDistiller):
        found = type(model).__name__
        raise TypeError(f"model: expected IKEM, RelationalDistiller or STGCN, found {found}")
    suffixes = _suffixes(model, published)
    prefixes, optional = _prefixes(model, suffixes)
    heads = {
        ours: head
        for ours, theirs in prefixes.items()
        if isinstance(model, IKEM) and (head := _nested_head(published, f"{theirs}.fc"))
    }
    expected = _with_heads(model, heads)
    ours, used = {}, set()
    for name in expected:
        prefix = next((p for p in prefixes if name.startswith(p + ".")), None)
        if prefix is None:
            continue
        theirs = prefixes[prefix] + name.removeprefix(prefix)
        if theirs in published:
            ours[name] = published[theirs]
            used.add(theirs)
        elif not prefix.startswith(optional):
            raise ValueError(f"state_dict: expected {theirs!r} (for {name!r}), which is not there")

    banks = ["queue" + suffixes[name] for name in model.modalities]
    ours["bank.rows"] = _bank_rows(model, published, banks)
    pointer = published.get("queue_ptr", torch.zeros(1, dtype=torch.int64))
    ours["bank.pointer"] = pointer.reshape(-1)[0]

    # Pointers turn together, and a distiller's joint bank is the modalities' banks side by side.
    used |= {*banks, "queue_teacher", *(name for name in published if name.startswith("queue_ptr"))}
    # A distiller has no use for what else a pretraining checkpoint holds.
    spare = ("encoder_k", "mlp2") if isinstance(model, RelationalDistiller) else ()
    unknown = [name for name in published if name not in used and not name.startswith(spare or "\0")]
    if unknown:
        raise ValueError(f"state_dict: {unknown[0]!r} belongs nowhere in {type(model).__name__}")
    for name, tensor in ours.items():
        if tensor.shape != expected[name].shape:
            raise ValueError(
                f"state_dict: expected shape {tuple(expected[name].shape)} for {name!r}, "
                f"found {tuple(tensor.shape)}"
            )
    for name, head in heads.items():
        model.get_submodule(name).fc = head
    model.load_state_dict(ours, strict=False)


def published_state_dict(model: IKEM, *, exchange_heads: bool = True) -> dict[str, torch.Tensor]:
    """Give a model's weights and banks under the names of the published code, ready to be saved.

    Args:
        model: with three modalities or fewer its names are CrosSCLR's, with one AimCLR's and SkeletonCLR's.
        exchange_heads: whether they are among them: those relatives have none.

    Returns:
        name → tensor; banks are (D,K).

    Example:
        model = IKEM(modalities=("joint",), queue_size=64)
        torch.save(published_state_dict(model, exchange_heads=False), "aimclr.pt")
    """
    suffixes = {name: _SUFFIX[name] if len(model.modalities) > 1 else "" for name in model.modalities}
    prefixes, _ = _prefixes(model, suffixes)
    state: dict[str, torch.Tensor] = {}
    for ours, theirs in prefixes.items():
        if exchange_heads or not ours.startswith("exchange_heads"):
            weights = model.get_submodule(ours).state_dict()
            state |= {f"{theirs}.{name}": tensor.clone() for name, tensor in weights.items()}
    for rows, name in zip(model.bank.rows, model.modalities, strict=True):
        state["queue" + suffixes[name]] = rows.T.clone()
        state["queue_ptr" + suffixes[name]] = model.bank.pointer.reshape(1).clone()
    return state


def _bank_rows(model, published, banks):
    """The banks (P,K,D) of their (D,K) by name. Raises ValueError."""
    missing = [name for name in banks if name not in published]
    if missing:
        raise ValueError(f"state_dict: expected {missing[0]!r} (a memory bank), which is not there")
    _, K, D = model.bank.rows.shape
    for name in banks:
        if published[name].shape != (D, K):
            raise ValueError(
                f"state_dict: expected shape {(D, K)} for {name!r}, found {tuple(published[name].shape)}"
            )
    return torch.stack([published[name].T for name in banks])


def _suffixes(model, published):
    """How the checkpoint marks each modality: not at all, where there is one and its bank has no mark."""
    if len(model.modalities) == 1 and "queue" in published:
        return {model.modalities[0]: ""}
    return {name: _SUFFIX[name] for name in model.modalities}


def _with_heads(model, heads):
    """The state that the model would have with other heads on its encoders: name → tensor."""
    state = dict(model.state_dict())
    for name, head in heads.items():
        prefix = f"{name}.fc."
        state = {key: tensor for key, tensor in state.items() if not key.startswith(prefix)}
        state |= {prefix + key: tensor for key, tensor in head.state_dict().items()}
    return state


def _nested_head(published, name):
    """Linear → ReLU → (Linear → ReLU → Linear) of a checkpoint's sizes, or None where its head is another."""
    parts = [published.get(f"{name}.{part}.weight") for part in ("0", "2.0", "2.2")]
    if any(part is None or part.dim() != 2 for part in parts):
        return None
    first, second, third = (nn.Linear(*reversed(part.shape)).to(part) for part in parts)
    return nn.Sequential(first, nn.ReLU(), nn.Sequential(second, nn.ReLU(), third))


def _load_encoder(model, published, prefix):
    """Load what stands behind a prefix, or the only one, into an STGCN."""
    mark = ".st_gcn_networks.0.gcn.conv.weight"
    found = sorted(name.removesuffix(mark) for name in published if name.endswith(mark))
    if mark[1:] in published:
        found.append("")
    if prefix is None:
        prefix = found[0] if len(found) == 1 else "encoder_q"
    if prefix not in found:
        raise ValueError(
            f"encoder: expected one of {', '.join(map(repr, found)) or 'none'}, found {prefix!r}"
        )
    start = f"{prefix}." if prefix else ""
    state = {name.removeprefix(start): each for name, each in published.items() if name.startswith(start)}
    for name, tensor in model.state_dict().items():
        if name not in state and not name.startswith("fc."):
            raise ValueError(f"state_dict: expected {start + name!r}, which is not there")
        if name in state and state[name].shape != tensor.shape:
            raise ValueError(
                f"state_dict: expected shape {tuple(tensor.shape)} for {start + name!r}, "
                f"found {tuple(state[name].shape)}"
            )
    unknown = [name for name in state if name not in model.state_dict() and not name.startswith("fc.")]
    if unknown and prefix:
        raise ValueError(f"state_dict: {start + unknown[0]!r} belongs nowhere in STGCN")
    known = {name: tensor for name, tensor in state.items() if name in model.state_dict()}
    model.load_state_dict(known, strict=False)


def _prefixes(model, suffixes):
    """Our prefix → theirs, and the prefixes of ours that a checkpoint may lack."""
    if isinstance(model, IKEM):
        prefixes = {}
        for name in model.modalities:
            prefixes[f"query_encoders.{name}"] = "encoder_q" + suffixes[name]
            prefixes[f"key_encoders.{name}"] = "encoder_k" + suffixes[name]
            prefixes[f"exchange_heads.{name}"] = "mlp2" + _LETTER[name]
        return prefixes, ("exchange_heads",)
    prefixes = {f"teacher.{name}": "encoder_q" + _SUFFIX[name] for name in model.modalities}
    for name in model.student_modalities:
        prefixes[f"students.{name}"] = "encoder_student_" + _LETTER[name]
    return prefixes, ("students",)
