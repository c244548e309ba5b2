"""The evaluations that there are, one file each, and the table of them."""

from ikem_fast.evaluate.protocols.base import Protocol
from ikem_fast.evaluate.protocols.finetune import FINETUNE
from ikem_fast.evaluate.protocols.fuse import FUSE
from ikem_fast.evaluate.protocols.knn import KNN
from ikem_fast.evaluate.protocols.linear import LINEAR
from ikem_fast.evaluate.protocols.raw import RAW
from ikem_fast.evaluate.protocols.retrieval import RETRIEVAL
from ikem_fast.evaluate.protocols.semi import SEMI
from ikem_fast.evaluate.protocols.transfer import TRANSFER

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol for protocol in (LINEAR, KNN, RAW, FINETUNE, SEMI, TRANSFER, RETRIEVAL, FUSE)
}

__all__ = ["PROTOCOLS", "Protocol"]
