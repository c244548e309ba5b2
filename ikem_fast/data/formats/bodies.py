"""Who is who: people found frame by frame, without names, as tracks of bodies."""

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np

MAX_TRACKS = 64  # of a clip; further ones are people seen in passing


def as_poses(numbers: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Make float32 of what a file has.

    Raises ValueError or TypeError where it has something else, or not so many.
    """
    return to_float32(numbers).reshape(shape)


def to_float32(numbers: Any) -> np.ndarray:
    """Make float32 of numbers, a contiguous array of its own; those beyond it become infinite.

    Infinite coordinates are refused later as such.
    """
    with np.errstate(over="ignore"):
        return np.array(numbers, np.float32, order="C")


def stacked(frames: Sequence[Sequence[Any]], shape: tuple[int, ...]) -> np.ndarray:
    """Make float32 (K, *shape) of the people of all frames: one conversion costs far less than one of each.

    Raises ValueError, TypeError or OverflowError where anybody is something else; `as_poses` tells who.
    """
    people = list(chain.from_iterable(frames))
    numbers = to_float32(people) if people else np.zeros((0, *shape), np.float32)
    if numbers.shape != (len(people), *shape):
        raise ValueError(f"expected shape {shape}, found {numbers.shape[1:]}")
    return numbers


def by_frame(people: np.ndarray, frames: Sequence[Sequence[Any]]) -> list[np.ndarray]:
    """Part the people of all frames, as `stacked` has them, into those of each."""
    ends = accumulate(map(len, frames))
    return [people[end - len(frame) : end] for frame, end in zip(frames, ends, strict=True)]


def link_bodies(frames: Sequence[np.ndarray], bodies: int | None) -> np.ndarray:
    """Make a raw clip of people found in each frame: those who are seen longest, where there are more.

    A person goes on the track whose last place is nearest (the mean over joints), the nearest pair first, if
    that is nearer than two of the person's sizes; otherwise on a new one. Joints at zero are missing.

    Args:
        frames: of each the people found, (P, V, 3), P from 0 on.
        bodies: M of the result; as many as there are, if None.

    Returns:
        (3, F, V, M) of the frames' dtype, zero where a body is not seen.

    Raises ValueError where nobody is in any frame.

    Example:
        link_bodies([np.ones((1, 17, 3)), np.ones((2, 17, 3))], bodies=2).shape  # (3, 2, 17, 2)
    """
    if not any(map(len, frames)):
        raise ValueError(f"expected people, found none in any of {len(frames)} frames")
    joints = next(people.shape[1] for people in frames if len(people))
    if (alone := _of_one_track(frames)) is not None:
        clip = np.zeros((len(frames), joints, 3, bodies or 1), frames[0].dtype)
        clip[[number for number, people in enumerate(frames) if len(people)], ..., 0] = alone
        return np.ascontiguousarray(clip.transpose(2, 0, 1, 3))
    tracks: list[dict[int, np.ndarray]] = []
    last: list[np.ndarray] = []
    for number, people in enumerate(frames):
        free = set(range(len(tracks)))
        taken = {}
        pairs = sorted(
            (_distance(last[track], person), track, place)
            for place, person in enumerate(people)
            for track in free
        )
        for distance, track, place in pairs:
            if track in free and place not in taken and distance < 2 * _size(people[place]):
                taken[place] = track
                free.discard(track)
        for place, person in enumerate(people):
            if place not in taken and len(tracks) < MAX_TRACKS and person.any():
                taken[place] = len(tracks)
                tracks.append({})
                last.append(person)
            if place in taken:
                tracks[taken[place]][number] = last[taken[place]] = person
    return longest_tracks(tracks, (len(frames), joints), bodies or max(len(tracks), 1), frames[0].dtype)


def _of_one_track(frames):
    """Everybody, where that is one person a frame at most, who never goes far: most clips, in a few steps.

    None where there may be more tracks than one.
    """
    if max(map(len, frames)) > 1:
        return None
    people = np.concatenate([frame for frame in frames if len(frame)])
    there, places = people.any(2), people[..., :2]
    both = there[1:] & there[:-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        steps = np.where(both, np.abs(np.diff(places, axis=0)).max(2), 0).sum(1) / both.sum(1)
        low, high = (np.where(there[..., None], places, end) for end in (np.inf, -np.inf))
        near = steps < 2 * (high.max(1) - low.min(1)).max(1)[1:]
    return people if there.any(1).all() and near.all() else None


def longest_tracks(
    tracks: Sequence[Mapping[int, np.ndarray]], shape: tuple[int, int], bodies: int, dtype: np.dtype
) -> np.ndarray:
    """Make a raw clip of the tracks that are longest, the longest first.

    Args:
        tracks: of each body {frame: its joints (V, 3)}.
        shape: F and V.
        bodies: M of the result.
        dtype: of the result.

    Returns:
        (3, F, V, M), zero where a body is not seen.
    """
    clip = np.zeros((*shape, 3, bodies), dtype)
    for body, track in enumerate(sorted(tracks, key=len, reverse=True)[:bodies]):
        for number, person in track.items():
            clip[number, ..., body] = person
    return np.ascontiguousarray(clip.transpose(2, 0, 1, 3))


def _distance(one, other):
    """Between two people, over the joints that both have; the third number of a place is a score or depth."""
    both = one.any(axis=1) & other.any(axis=1)
    return float(np.abs(one[both, :2] - other[both, :2]).max(axis=1).mean()) if both.any() else np.inf


def _size(person):
    there = person[person.any(axis=1), :2]
    return float(np.ptp(there, axis=0).max()) if len(there) else 0.0
