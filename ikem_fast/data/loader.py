"""Batches of a prepared split on a device, in an order that only the seed and the epoch decide."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

RESIDENT_SHARE = 0.4  # of a GPU's free memory: a split that takes less is copied there once


class BatchLoader:
    """Batches of (clips, frames) on `device`.

    Clips live on a GPU if they fit there. Otherwise a thread reads the next batch from the memory map while
    the device computes the present one.

    Args:
        split: `data.Split`.
        batch_size: clips in a batch; the last batch of an epoch is smaller unless `drop_last`.
        device: torch device that batches are wanted on.
        seed: of the order.
    """

    def __init__(self, split, batch_size, device, seed=0, drop_last=False):
        self.split = split
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.seed = seed
        self.drop_last = drop_last
        self.frames = torch.tensor(np.asarray(split.frames), device=self.device)
        self.resident = self._resident_clips()

    def __len__(self):
        clips, size = len(self.split), self.batch_size
        return clips // size if self.drop_last else -(-clips // size)

    def epoch(self, epoch):
        """Every clip once, in the order of this epoch (any integer)."""
        yield from self._batches(lambda positions: shuffled(positions, len(self.split), (self.seed, epoch)))

    def in_order(self):
        """Every clip once, as stored."""
        yield from self._batches(lambda positions: positions)

    def _batches(self, order):
        with ThreadPoolExecutor(1) as reader:
            pending = reader.submit(self._read, order, 0)
            for step in range(len(self)):
                clips, frames = pending.result()
                if step + 1 < len(self):
                    pending = reader.submit(self._read, order, step + 1)
                yield clips.to(self.device, non_blocking=True), frames

    def _read(self, order, step):
        start = step * self.batch_size
        where = order(np.arange(start, min(start + self.batch_size, len(self.split))))
        index = torch.from_numpy(where).to(self.device)
        if self.resident is not None:
            return self.resident[index], self.frames[index]
        clips = torch.from_numpy(self.split.clips[where])
        return clips.pin_memory() if self.device.type == "cuda" else clips, self.frames[index]

    def _resident_clips(self):
        if self.device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        if self.split.clips.nbytes > RESIDENT_SHARE * free:
            return None
        clips = torch.empty(self.split.clips.shape, device=self.device)
        for start in range(0, len(self.split), 1024):
            clips[start : start + 1024] = torch.from_numpy(np.array(self.split.clips[start : start + 1024]))
        return clips


def shuffled(positions, size, seed):
    """Where a seeded permutation of 0 … size−1 takes `positions` (int64 array), without storing it.

    A four-round Feistel network on the next even number of bits; results outside 0 … size−1 are put through
    again until they fall inside (cycle walking), which keeps it a permutation.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    keys = np.random.SeedSequence(seed).generate_state(4, np.uint64)
    result = positions.astype(np.uint64)
    outside = np.ones(len(result), dtype=bool)
    while outside.any():
        left, right = result[outside] >> np.uint64(half), result[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        result[outside] = (left << np.uint64(half)) | right
        outside = result >= size
    return result.astype(np.int64)


def _mix(x):
    """A 64-bit hash (the finaliser of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
