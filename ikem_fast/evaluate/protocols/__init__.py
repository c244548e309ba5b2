"""The evaluations that there are. A new one is a file here and a line in `PROTOCOLS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ikem_fast.evaluate.protocols import finetune, fuse, knn, linear, raw, retrieval, semi, transfer
from ikem_fast.evaluate.results import Results


@dataclass(frozen=True)
class Protocol:
    """An evaluation; the command line has a command of its name.

    name: of the command, and of its section in a configuration file.
    summary: what it does, a sentence.
    example: of the command.
    settings: the dataclass of its settings, with the folder `out` among them.
    run: settings → results, written to the folder `out` of the settings.
    files: names of what it leaves there.
    words: the setting that words of the command without an option are for.
    """

    name: str
    summary: str
    example: str
    settings: type
    run: Callable[[Any], Results]
    files: tuple[str, ...]
    words: str | None = None


_ALL = (
    Protocol(
        name="linear",
        summary="Fit linear classifiers to frozen features, beside raw and untrained: accuracy, picture.",
        example="ikem-fast evaluate linear --data data/ntu60 --checkpoint runs/teacher --out runs/linear",
        settings=linear.LinearConfig,
        run=linear.evaluate_linear,
        files=("linear.json", "linear_scores.npz", "linear.npz", "linear.png", "bundle"),
    ),
    Protocol(
        name="knn",
        summary="Let the nearest training clips vote, by frozen features: accuracy, confusion.",
        example="ikem-fast evaluate knn --data data/ntu60 --checkpoint runs/teacher --out runs/teacher/knn",
        settings=knn.KnnConfig,
        run=knn.evaluate_knn,
        files=("knn.json", "knn_scores.npz"),
    ),
    Protocol(
        name="raw",
        summary="Judge the coordinates themselves by the same probes, without an encoder.",
        example="ikem-fast evaluate raw --data data/utd_mhad --out runs/raw",
        settings=raw.RawConfig,
        run=raw.evaluate_raw,
        files=("raw.json", "raw_scores.npz"),
    ),
    Protocol(
        name="finetune",
        summary="Train encoders by labels, beside the same from random weights and frozen ones.",
        example="ikem-fast evaluate finetune --data data/utd_mhad --checkpoint runs/teacher --out runs/tuned",
        settings=finetune.FinetuneConfig,
        run=finetune.evaluate_finetune,
        files=("finetune.json", "finetune_scores.npz"),
    ),
    Protocol(
        name="semi",
        summary="Learn from few labels, frozen and finetuned, beside the same from random weights.",
        example="ikem-fast evaluate semi --data data/utd_mhad --checkpoint runs/teacher --out runs/semi",
        settings=semi.SemiConfig,
        run=semi.evaluate_semi,
        files=("semi.json", "semi_scores.npz"),
    ),
    Protocol(
        name="transfer",
        summary="Fit linear classifiers on another dataset, of another layout too.",
        example="ikem-fast evaluate transfer --data data/nw_ucla --checkpoint runs/utd --out runs/transfer",
        settings=transfer.TransferConfig,
        run=transfer.evaluate_transfer,
        files=("transfer.json", "transfer_scores.npz", "transfer.npz", "transfer.png", "bundle"),
    ),
    Protocol(
        name="retrieval",
        summary="Rank training clips by similarity to test clips: mAP, recall@k.",
        example="ikem-fast evaluate retrieval --data data/utd_mhad --checkpoint runs/six --out runs/found",
        settings=retrieval.RetrievalConfig,
        run=retrieval.evaluate_retrieval,
        files=("retrieval.json", "retrieval_scores.npz"),
    ),
    Protocol(
        name="fuse",
        summary="Add the scores of several evaluations of the same clips.",
        example="ikem-fast evaluate fuse runs/a/linear.json runs/b/linear.json --out runs/both",
        settings=fuse.FuseConfig,
        run=fuse.evaluate_fuse,
        files=("fuse.json", "fuse_scores.npz"),
        words="results",
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}
