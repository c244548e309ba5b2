"""The graph as tables for kernels: for each partition and joint, the joints at the other ends of edges."""

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass(frozen=True)
class Edges:
    """Edges as they arrive at joints, or as they leave them.

    table: (2, K, most, V) int32: the joints at the other ends, −1 where a joint has fewer than `most`, and
    where the edges stand in A (K,V,V). counts: the most edges that a joint has, of each partition. places:
    (K,V,V) int64: where an edge of A stands in the table, 0 where there is none.
    """

    table: torch.Tensor
    counts: tuple[int, ...]
    places: torch.Tensor

    @property
    def most(self):
        return self.table.shape[2]


@dataclass(frozen=True)
class Graph:
    """arriving: the edges at the joints that they lead to. leaving: at those that they come from."""

    arriving: Edges
    leaving: Edges

    @classmethod
    def of(cls, A):
        """Return the graph of A (K,V,V), [k, v, w] of an edge from v to w: where it is not 0.

        What A holds is read by the host when it is first asked for, and when A has changed since.
        """
        version, graph = _known.get(A, (None, None))
        if version != A._version:
            edges = np.argwhere(A.detach().cpu().numpy() != 0)
            graph = cls(_edges(A, edges, here=2, there=1), _edges(A, edges, here=1, there=2))
            _known[A] = A._version, graph
        return graph


_known = WeakTensorKeyDictionary()


def _edges(A, edges, here, there):
    K, V, _ = A.shape
    found = {}
    for edge in edges:
        found.setdefault((edge[0], edge[here]), []).append(edge)
    counts = tuple(max((len(found.get((k, v), ())) for v in range(V)), default=0) for k in range(K))
    table = np.full((2, K, max(*counts, 1), V), -1, np.int32)
    places = np.zeros(A.shape, np.int64)
    for (k, joint), met in found.items():
        for number, edge in enumerate(met):
            table[:, k, number, joint] = edge[there], np.ravel_multi_index(tuple(edge), A.shape)
            places[tuple(edge)] = np.ravel_multi_index((k, number, joint), table.shape[1:])
    return Edges(torch.from_numpy(table).to(A.device), counts, torch.from_numpy(places).to(A.device))
