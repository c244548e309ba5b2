"""Batches of a prepared split on a device, in an order that only the seed and the epoch decide."""

import mmap
import os
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from ikem_fast.errors import InputError

RESIDENT_SHARE = 0.4  # of a GPU's free memory: a split that takes less is copied there once


class BatchLoader:
    """Batches of (clips, frames) on `device`, or a share of each.

    Clips live on a GPU if they fit there. Otherwise a thread reads the next batch from disk while the device
    computes the present one; for a GPU it reads into one of two pinned buffers, and a stream of its own
    copies from there. Memory does not grow with the split: there is no index of an epoch, and what was read
    stays in the system's cache alone.

    Args:
        split: `data.Split`.
        batch_size: clips in a batch; the last batch of an epoch is smaller unless `drop_last`.
        device: torch device that batches are wanted on.
        seed: of the order.
        share: clips in a batch → the places in it that are read here, a slice; all of them if not given.
            Where several processes read one batch, each has its own part of it.
    """

    def __init__(self, split, batch_size, device, seed=0, drop_last=False, share=None):
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.share = share or (lambda clips: slice(0, clips))
        self.frames = torch.tensor(np.asarray(split.frames), device=device)
        self.device = self.frames.device  # of GPUs the number too
        self.source = _Source(split.clips)
        self.resident = self._resident_clips()
        streams = self.device.type == "cuda" and self.resident is None
        self.ring = _PinnedRing(self.source, batch_size, self.device) if streams else None

    def __len__(self):
        clips, size = len(self.split), self.batch_size
        return clips // size if self.drop_last else -(-clips // size)

    def clips_in(self, step):
        """Clips in batch `step` (from 0) of an epoch, whatever is read of it here."""
        return min(self.batch_size, len(self.split) - step * self.batch_size)

    def epoch(self, epoch, first=0):
        """Every clip once, in the order of this epoch (any integer), from batch `first` on."""
        yield from self._batches(self._order(epoch), first)

    def places(self, epoch, step):
        """Where in the split the clips of batch `step` of this epoch are that are read here: int64 array."""
        return self._order(epoch)(self._positions(step))

    def places_of_all(self, epoch, step):
        """Where the clips of batch `step` of this epoch are, of all processes: list of integers."""
        start = step * self.batch_size
        return self._order(epoch)(np.arange(start, start + self.clips_in(step))).tolist()

    def in_order(self):
        """Every clip once, as stored."""
        yield from self._batches(lambda positions: positions)

    def _order(self, epoch):
        return lambda positions: shuffled(positions, len(self.split), (self.seed, epoch))

    def _positions(self, step):
        places = self.share(self.clips_in(step))
        start = step * self.batch_size
        return np.arange(start + places.start, start + places.stop)

    def _batches(self, order, first=0):
        # A thread has a current GPU of its own, at first the first one: pinning there would make a context.
        start = (torch.cuda.set_device, (self.device,)) if self.device.type == "cuda" else (None, ())
        with ThreadPoolExecutor(1, initializer=start[0], initargs=start[1]) as reader:
            pending = reader.submit(self._read, order, first)
            for step in range(first, len(self)):
                index, clips, copied = pending.result()
                if step + 1 < len(self):
                    pending = reader.submit(self._read, order, step + 1)
                yield self._deliver(index, clips, copied)

    def _read(self, order, step):
        """In the reader's thread: where the batch's clips are, and the clips unless they are resident."""
        where = order(self._positions(step))
        index = torch.from_numpy(where)
        if self.device.type == "cuda":
            index = index.pin_memory()
        if self.resident is not None:
            return index, None, None
        if self.ring is not None:
            clips, copied = self.ring.fetch(where)
        else:
            # NumPy allocates: aligned blocks, as torch takes them, left holes in this thread's heap.
            read = np.empty((len(where), *self.source.shape), np.float32)
            self.source.read(where, read)
            clips, copied = torch.from_numpy(read), None
        return index, clips, copied

    def _deliver(self, index, clips, copied):
        """On the device, without waiting for it."""
        index = index.to(self.device, non_blocking=True)
        if self.resident is not None:
            clips = self.resident[index]
        elif copied is not None:
            stream = torch.cuda.current_stream(self.device)
            stream.wait_event(copied)
            clips.record_stream(stream)
        return clips.to(self.device), self.frames[index]

    def _resident_clips(self):
        if self.device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        if self.split.clips.nbytes > RESIDENT_SHARE * free:
            return None
        clips = torch.empty(self.split.clips.shape, device=self.device)
        for part in clips.split(1024):
            read = torch.empty(part.shape)
            start = part.storage_offset() // clips.stride(0)
            self.source.read(np.arange(start, start + len(part)), read.numpy())
            part.copy_(read)
        return clips


class _PinnedRing:
    """Two pinned buffers that clips pass through on their way to a GPU, copied by a stream of their own.

    While one is copied from, the other is filled; only the reading thread waits for a buffer to be free.
    """

    def __init__(self, source, batch_size, device):
        self.source = source
        self.device = device
        self.stream = torch.cuda.Stream(device)
        shape = (batch_size, *source.shape)
        self.slots = [
            (torch.empty(shape, dtype=torch.float32, pin_memory=True), torch.cuda.Event()) for _ in range(2)
        ]
        self.turn = 0

    def fetch(self, where):
        """The clips at `where` (int64 array) on the GPU, and the event after which they are there."""
        buffer, copied = self.slots[self.turn]
        self.turn = 1 - self.turn
        copied.synchronize()
        buffer = buffer[: len(where)]
        self.source.read(where, buffer.numpy())
        with torch.cuda.stream(self.stream):
            clips = buffer.to(self.device, non_blocking=True)
            copied.record()
        return clips, copied


class _Source:
    """Clips (N,…) of a split at any places. Those of a memory map are read from its file, by position.

    A page fault of the map reads what surrounds the page too, which random places do not want: cold, that
    was a hundred times slower. Nor do pages that are not mapped count as this process's memory.
    """

    def __init__(self, clips):
        self.clips = clips
        self.shape = clips.shape[1:]
        self.file = None
        if isinstance(clips.base, mmap.mmap) and clips.flags.c_contiguous and hasattr(os, "preadv"):
            self.file = os.open(clips.filename, os.O_RDONLY)
            weakref.finalize(self, os.close, self.file)
            self.written = _written(self.file)

    def read(self, where, out):
        """Clips at `where` (int64 array) → out, an array of that many."""
        if self.file is None:
            np.take(self.clips, where, axis=0, out=out, mode="clip")  # other modes need a buffer more
            return
        if _written(self.file) != self.written:
            raise InputError(
                f"{self.clips.filename}: expected a file that stays as it is while it is read, found it "
                "written to; prepare the dataset anew"
            )
        size = self.clips.strides[0]
        for row, place in zip(out, where.tolist(), strict=True):
            if os.preadv(self.file, [row], self.clips.offset + place * size) != size:
                raise InputError(f"{self.clips.filename}: expected clip {place}, found it cut short")


def _written(file):
    """What tells whether an open file was written to: its size and when. Its name may go, or be another's."""
    status = os.fstat(file)
    return status.st_size, status.st_mtime_ns


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
