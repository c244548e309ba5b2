"""A model of the encoder's Triton kernels on cards that are not here, from their launches and instructions.

A launch reads and writes each of its tensors once from memory. Tiles are read again from the caches: over
time by every tap, over the graph by every edge, weights by every program. What binds is memory, the second-
level cache, the first-level one, the matrix units, or how many instructions a multiprocessor starts.
"""

import contextlib
import math
from unittest import mock

import torch
from torch.utils._pytree import tree_leaves

from benchmarks.compiled import compiled, noting
from ikem_fast.ops.encoder.triton import launch as launching
from ikem_fast.ops.encoder.triton import passes, products, weights

FIRST_LEVEL = 128  # bytes a clock and multiprocessor
STARTED = 4  # instructions of warps a clock and multiprocessor


@contextlib.contextmanager
def on_card(card, note):
    """Have the encoder's kernels call note(`Launch`) in place of launching, as on a card."""
    with noting(note, products, passes, weights), mock.patch.object(
        launching, "multiprocessors", lambda device: card.multiprocessors
    ):  # fmt: skip
        yield


def work(launch):
    """(bytes, multiply-adds) of a launch: each tensor once, and the products that are needed."""
    tensors = [value for value in tree_leaves(launch.given) if isinstance(value, torch.Tensor)]
    moved = sum(size(tensor) for tensor in {id(tensor): tensor for tensor in tensors}.values())
    return moved, _rows(launch) * _of_row(launch)


def size(tensor):
    return tensor.numel() * tensor.element_size()


def tile(launch):
    """Multiply-adds of one tile of a launch, as many as the instructions must have; 0 without products."""
    a = launch.arguments
    if "GIVEN" not in a:
        return 0
    given, made = a["BLOCK_GIVEN"], a["BLOCK_MADE"]
    match launch.name:
        case "graph":
            of_row = a["PARTITIONS"] * given * (a["BLOCK"] + made) * math.ceil(a["GIVEN"] / given)
        case "graph_weights":
            of_row = 2 * a["PARTITIONS"] * given * (a["BLOCK"] + made)
        case "temporal_weights":
            of_row = a["GROUP"] * given * made
        case _:
            taps = math.ceil(a["TAPS"] / (a["STRIDE"] if launch.name == "temporal_backward" else 1))
            of_row = taps * given * made * math.ceil(a["GIVEN"] / given)
    return a["ROWS"] * of_row


def seconds(launch, card):
    """Of a launch, without its start, at the rates of a card."""
    a, made = launch.arguments, compiled(launch, card.arch)
    moved, _ = work(launch)
    clocks = card.multiprocessors * card.clock
    loaded, cached = loads(launch) if "GIVEN" in a else (0, 0)
    trips = 1
    if launch.name.endswith("_weights"):
        trips = math.ceil(_tiles(launch) / launch.grid[0])
    multiply_adds = launch.programs * trips * made.all_multiply_adds
    started = launch.programs * launch.warps * (made.instructions + (trips - 1) * made.loop)
    return max(
        moved / card.memory,
        max(moved, cached) / card.cache,
        loaded / (FIRST_LEVEL * clocks),
        multiply_adds / (card.multiply_adds * clocks),
        started / (STARTED * clocks),
    )


def loads(launch):
    """Bytes that the programs of a product load, and those that their multiprocessor has not at hand.

    At hand is what a program loaded for another tap, times of a tile being neighbors.
    """
    a = launch.arguments
    stride, taps, rows = a.get("STRIDE", 1), a.get("TAPS", 1), a["ROWS"]
    given, made = (math.ceil(a[name] / a[f"BLOCK_{name}"]) for name in ("GIVEN", "MADE"))
    encoders = launch.grid[2]
    of_all = sum(size(a[name]) for name in ("weight_ptr", "A_ptr") if name in a)  # every program's
    weights = of_all / encoders * launch.programs / made

    def beside(taps, rows):
        return 1 + (taps - 1) * a["JOINTS"] / rows

    match launch.name:
        case "graph":
            loaded = fresh = size(a["x_ptr"]) * made
        case "temporal":
            loaded = size(a["x_ptr"]) / stride * taps * made
            fresh = size(a["x_ptr"]) * made * beside(taps, rows * stride)
        case "temporal_backward":
            loaded = size(a["grad_ptr"]) * taps * made
            fresh = size(a["grad_ptr"]) * stride * made * beside((taps - 1) // stride + 1, rows)
        case "graph_weights":
            weights /= given
            loaded = fresh = size(a["x_ptr"]) * made + size(a["grad_ptr"]) * given
        case "temporal_weights":
            weights, groups = 0, taps // a["GROUP"]
            grads = size(a["grad_ptr"]) * given * groups
            loaded = size(a["x_ptr"]) / stride * taps * made + grads
            neighbors = rows * stride * _tiles(launch) / launch.grid[0]  # rows of a record
            fresh = size(a["x_ptr"]) * made * groups * beside(a["GROUP"], neighbors) + grads
    return loaded + weights, fresh + weights


def _tiles(launch):
    """Of rows, of an encoder."""
    a = launch.arguments
    if "PARTITIONS" in a:
        return math.ceil(a["frames"] / (a["ROWS"] // a["BLOCK"]))
    return math.ceil(a["rows"] / a["ROWS"])


def _rows(launch):
    """Of all encoders."""
    a = launch.arguments
    return launch.grid[2] * (a["frames"] * a["JOINTS"] if "PARTITIONS" in a else a.get("rows", 0))


def _of_row(launch):
    """Multiply-adds that each row needs: with partitions of the graph and their matrices, or with taps."""
    a = launch.arguments
    if "PARTITIONS" in a:
        products = 2 if launch.name == "graph_weights" else 1
        return products * a["PARTITIONS"] * a["GIVEN"] * (a["JOINTS"] + a["MADE"])
    return a.get("TAPS", 0) * a.get("GIVEN", 0) * a.get("MADE", 0)
