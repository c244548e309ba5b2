"""The least that a bank loss can cost: bytes that must move, operations that must be done, their floor.

P modalities, N clips, K keys, D numbers a feature, S students; e bytes a number. One product of N features
with K keys of width W is 2·N·K·W operations. A pass over the banks reads P·K·D numbers.

| loss | forward | backward | passes, forward / both |
| --- | --- | --- | --- |
| info_nce | P products of width D | P more: its gradient is the weighted sum of keys | 1 / 1 |
| cross_modal_contrast | P of width D | 2P more: the similarities again, then the sums of keys | 1 / 2 |
| implicit_exchange | P of width P·D | P more of width P·D | 1 / 1 |
| relational_distillation | S of width P·D, P of width D | those again, and S of width P·D | 1 / 2 |
| nearest_neighbors | P of width D | none | 1 |

Exponentials, maxima and the features themselves are left out: small next to these at the method's sizes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    bytes: int
    operations: int

    def floor(self, ceilings):
        """Seconds below which no implementation gets on a machine with these ceilings."""
        return max(self.bytes / ceilings["bytes_per_s"], self.operations / ceilings["operations_per_s"])


def work(name, P, N, K, D, S, itemsize, backward):
    narrow, wide = 2 * N * K * D, 2 * N * K * P * D
    operations, passes = {
        "info_nce": ((P * narrow, P * narrow), 1),
        "cross_modal_contrast": ((P * narrow, 2 * P * narrow), 2),
        "implicit_exchange": ((P * wide, P * wide), 1),
        "relational_distillation": ((S * wide + P * narrow, 2 * S * wide + P * narrow), 2),
        "nearest_neighbors": ((P * narrow, 0), 1),
    }[name]
    features = {"implicit_exchange": P * P, "relational_distillation": S * P}.get(name, P) * N * D
    return Work(
        bytes=itemsize * (P * K * D * (passes if backward else 1) + features * (2 if backward else 1)),
        operations=operations[0] + (operations[1] if backward else 0),
    )
