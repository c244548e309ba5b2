"""Augmentations in NumPy, a clip (3,T,V,M) at a time, as a loader's worker does them."""

import math

import numpy as np

from ikem_fast.augment import BLUR_TAPS
from ikem_fast.skeleton import get_layout


def shear(clip, rng):
    matrix = rng.uniform(-0.5, 0.5, (3, 3))
    np.fill_diagonal(matrix, 1)
    return np.dot(clip.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def rotation(clip, rng):
    axis, angle = rng.integers(3), rng.uniform(-math.pi / 6, math.pi / 6)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    matrix[j, i], matrix[i, j] = math.sin(angle), -math.sin(angle)
    return np.dot(clip.transpose(1, 2, 3, 0), matrix.T).transpose(3, 0, 1, 2)


def temporal_crop(clip, rng):
    padding = clip.shape[1] // 6
    padded = np.concatenate((clip[:, :padding][:, ::-1], clip, clip[:, -padding:][:, ::-1]), axis=1)
    start = rng.integers(2 * padding + 1)
    return padded[:, start : start + clip.shape[1]]


def flip(clip, rng):
    if rng.random() < 0.5:
        clip = clip[:, :, list(SWAP)] * np.array((-1, 1, 1)).reshape(3, 1, 1, 1)
    return clip


def time_reversal(clip, rng):
    return clip[:, ::-1] if rng.random() < 0.5 else clip


def noise(clip, rng):
    return clip + rng.normal(0, 0.01, clip.shape) * (clip != 0).any((0, 1, 2))


def blur(clip, rng):
    reach = BLUR_TAPS // 2
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / rng.uniform(0.1, 2)) ** 2)
    padded = np.pad(clip, [(0, 0), (reach, reach), (0, 0), (0, 0)], mode="symmetric")
    taps = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=1)
    return taps @ (kernel / kernel.sum())


def crop_resize(clip, rng):
    T = clip.shape[1]
    length = T * rng.uniform(0.5, 1)
    at = rng.uniform(0, T - length) + ((np.arange(T) + 0.5) * length / T - 0.5).clip(0, length - 1)
    before = at.astype(int)
    weight = (at - before)[:, None, None]
    return clip[:, before] * (1 - weight) + clip[:, np.minimum(before + 1, T - 1)] * weight


def joint_mask(clip, rng):
    clip = clip.copy()
    clip[:, :, rng.choice(clip.shape[2], 5, replace=False)] = 0
    return clip


def axis_mask(clip, rng):
    clip = clip.copy()
    clip[rng.integers(3)] = 0
    return clip


def frame_mask(clip, rng):
    clip = clip.copy()
    clip[:, rng.choice(clip.shape[1], 5, replace=False)] = 0
    return clip


def scale(clip, rng):
    return clip * rng.uniform(0.8, 1.2)


SWAP = get_layout("ntu-rgb+d").swap
PER_CLIP = {
    function.__name__: function
    for function in (
        shear, rotation, scale, flip, noise, axis_mask, joint_mask, temporal_crop, crop_resize,
        time_reversal, blur, frame_mask,
    )
}  # fmt: skip
