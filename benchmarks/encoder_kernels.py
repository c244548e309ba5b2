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
    """(bytes, multiply-adds) of a launch: each tensor once, and the products that are needed.

    Of the records of weights' gradients a launch for one partition of the graph writes that part.
    """
    tensors = [value for value in tree_leaves(launch.given) if isinstance(value, torch.Tensor)]
    moved = sum(size(tensor) for tensor in {id(tensor): tensor for tensor in tensors}.values())
    if launch.name == "graph_weights":
        parts = len(launch.arguments["COUNTS"])
        moved -= size(launch.arguments["records_ptr"]) * (parts - 1) // parts
    return moved, _rows(launch) * _products(launch) * _matrix(launch.arguments)


def size(tensor):
    return tensor.numel() * tensor.element_size()


def tile(launch):
    """Multiply-adds of one tile of a launch, as many as the instructions must have; 0 without products."""
    a = launch.arguments
    if "GIVEN" not in a:
        return 0
    if launch.name.endswith("_weights"):
        products = a.get("GROUP", 2)
    else:
        products = math.ceil(_products(launch) / (a["STRIDE"] if launch.name == "temporal_backward" else 1))
        products *= math.ceil(a["GIVEN"] / a["BLOCK_GIVEN"])
    return a["ROWS"] * products * a["BLOCK_GIVEN"] * a["BLOCK_MADE"]


def seconds(launch, card):
    """Of a launch, without its start, at the rates of a card."""
    a, made = launch.arguments, compiled(launch, card.arch)
    moved, multiply_adds = work(launch)
    clocks = card.multiprocessors * card.clock
    loaded, cached = loads(launch) if "GIVEN" in a else (0, 0)
    trips = 1
    if launch.name.endswith("_weights"):
        trips = math.ceil(_rows(launch) / a["ROWS"] / launch.grid[0])
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

    At hand is what a program loaded for another tap, times of a tile being neighbors, or for another edge,
    whose ends are in one frame.
    """
    a = launch.arguments
    stride, taps, rows = a.get("STRIDE", 1), a.get("TAPS", 1), a["ROWS"]
    given, made = (math.ceil(a[name] / a[f"BLOCK_{name}"]) for name in ("GIVEN", "MADE"))
    weights = size(a["weight_ptr"]) / made * launch.programs if "weight_ptr" in a else 0

    def beside(taps, rows):
        return 1 + (taps - 1) * a["joints"] / rows

    match launch.name:
        case "graph":
            loaded, fresh = size(a["x_ptr"]) * sum(a["COUNTS"]) * made, size(a["x_ptr"]) * made
        case "temporal":
            loaded = size(a["x_ptr"]) / stride * taps * made
            fresh = size(a["x_ptr"]) * made * beside(taps, rows * stride)
        case "temporal_backward":
            loaded = size(a["grad_ptr"]) * taps * made
            fresh = size(a["grad_ptr"]) * stride * made * beside((taps - 1) // stride + 1, rows)
        case "graph_weights":
            weights /= given
            grads, edges = size(a["grad_ptr"]) * given, a["COUNTS"][a["NUMBER"]]
            loaded, fresh = size(a["x_ptr"]) * edges * made + grads, size(a["x_ptr"]) * made + grads
        case "temporal_weights":
            groups = taps // a["GROUP"]
            grads = size(a["grad_ptr"]) * given * groups
            loaded = size(a["x_ptr"]) / stride * taps * made + grads
            fresh = size(a["x_ptr"]) * made * groups * beside(a["GROUP"], rows * stride) + grads
    return loaded + weights, fresh + weights


def _rows(launch):
    a = launch.arguments
    return a["frames"] * a["joints"] if launch.name == "graph_weights" else a.get("rows", 0)


def _products(launch):
    """Matrices that each row meets: partitions of the graph, or taps."""
    if launch.name == "graph_weights":
        return 2
    return len(launch.arguments.get("COUNTS", ())) or launch.arguments.get("TAPS", 0)


def _matrix(arguments):
    return arguments.get("GIVEN", 0) * arguments.get("MADE", 0)
