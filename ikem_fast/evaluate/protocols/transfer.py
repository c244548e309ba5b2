"""Transfer: what encoders of one dataset know of another, whose bodies may have other joints."""

from dataclasses import dataclass

from ikem_fast.data import convert_dataset
from ikem_fast.evaluate.features import open_splits
from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.protocols.linear import LinearConfig, linear_results
from ikem_fast.evaluate.results import Results
from ikem_fast.runtime.checkpoint import load_checkpoint, trained_layout
from ikem_fast.settings import check

NAME = "transfer"


@dataclass(kw_only=True)
class TransferConfig(LinearConfig):
    """Settings of transfer: those of linear evaluation, on a dataset of any layout."""


def evaluate_transfer(config: TransferConfig) -> Results:
    """Evaluate as `evaluate_linear` does, on clips brought into the layout that the encoders know.

    A joint of that layout is taken from the one of the same name; `skeleton.joint_weights` says where one is
    that is missing. Raw coordinates, beside it, are those brought into that layout.

    Args:
        config: the settings; `data` is the other dataset.

    Returns:
        What is written to `out`/transfer.json, with a picture, the classifiers and the scores beside it.

    Raises InputError for a dataset, checkpoint, set, device or setting that cannot be used.

    Example:
        evaluate_transfer(TransferConfig(data="data/nw_ucla", checkpoint="runs/utd", out="runs/utd/transfer"))
    """
    check(config)
    state = load_checkpoint(config.checkpoint)
    trained_on, layout = state["dataset"], trained_layout(state, config.checkpoint)
    bodies = (trained_on.get("shape") or [None])[-1]
    dataset = convert_dataset(open_splits(config), layout, bodies)
    return linear_results(config, dataset, f"Transfer from {trained_on.get('name', 'another dataset')}", NAME)


TRANSFER = Protocol(
    name=NAME,
    summary="Fit linear classifiers on another dataset, of another layout too.",
    example="ikem-fast evaluate transfer --data data/nw_ucla --checkpoint runs/utd --out runs/transfer",
    settings=TransferConfig,
    run=evaluate_transfer,
    files=("transfer.json", "transfer_scores.npz", "transfer.npz", "transfer.png", "bundle"),
)
